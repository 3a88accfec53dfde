/* libfaketime wraps epoll_wait, and tells the true time to whatever runs inside: a timer of PostgreSQL's that goes
 * off there would find that it is not due. Loaded before it, this waits without it. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

int epoll_wait(int descriptor, struct epoll_event *events, int most, int timeout)
{
    return syscall(SYS_epoll_pwait, descriptor, events, most, timeout, NULL, _NSIG / 8);
}
