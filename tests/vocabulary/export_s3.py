"""A bucket, seen by S3's own client."""

from functools import cache
from typing import Any
from uuid import uuid4

import boto3

from carnivore_db.kit.storage import OWNER

S3_SECRET = "s3-hunter2"
PART = 5 * 2**20


class Bucket:
    """Exports lie in one folder of it."""

    def __init__(self, endpoint: str) -> None:
        self.client = _client(endpoint)
        self.name = f"learners-{uuid4()}"
        self.client.create_bucket(
            Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        self.location = f"s3://{self.name}/exports"

    def files(self) -> dict[str, bytes]:
        """What lies there, by its path below the location, but whose it is."""
        listed = self.client.list_objects_v2(Bucket=self.name, Prefix="exports/").get("Contents", [])
        keys = [found["Key"] for found in listed if not found["Key"].endswith(OWNER)]
        return {key.removeprefix("exports/"): self._read(key) for key in keys}

    def _read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"exports/{name}", Body=content)

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"exports/{name}")

    def unfinished(self) -> list[str]:
        """Uploads that were begun and never ended."""
        listed = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [upload["Key"] for upload in listed]


@cache
def _client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="testing",
        aws_secret_access_key=S3_SECRET,
    )
