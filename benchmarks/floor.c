/* The least a supervisor can be, in C: vfork and execve, a pidfd in epoll, waitid(P_PIDFD), again.
 *
 *   floor N PROBE SOCKET [WORD]      keeps N probes alive, without any policy, until SIGTERM
 *
 * EPOLL_CTL_DEL comes before close, and waitid never blocks: vfork may return before the child's
 * close-on-exec has run, so a closed pidfd's registration can live on in the child's table and
 * report a number that has a new meaning by then. Every event is only a hint. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { P_PIDFD_ = 3, BATCH = 64 };

static int queue, alive;
static int *held; /* the pidfd of each index, -1 for none */
static volatile sig_atomic_t ending;
static sigset_t none;
static char *command[5];

static void on_term(int signum)
{
    (void)signum;
    ending = 1;
}

static void spawn(int index)
{
    char text[16];
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)index};
    pid_t pid;

    snprintf(text, sizeof text, "%d", index);
    command[2] = text;
    pid = vfork();
    if (pid == 0) {
        setsid();
        sigprocmask(SIG_SETMASK, &none, NULL);
        execv(command[0], command);
        _exit(127);
    }
    held[index] = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (held[index] < 0 || epoll_ctl(queue, EPOLL_CTL_ADD, held[index], &event) < 0) {
        perror("floor: cannot spawn");
        exit(1);
    }
    alive++;
}

static void reap(int index)
{
    siginfo_t info = {0};
    if (held[index] < 0 ||
        waitid((idtype_t)P_PIDFD_, (id_t)held[index], &info, WEXITED | WNOHANG) < 0 ||
        info.si_pid == 0)
        return;
    epoll_ctl(queue, EPOLL_CTL_DEL, held[index], NULL);
    close(held[index]);
    held[index] = -1;
    alive--;
    if (!ending)
        spawn(index);
}

int main(int argc, char **argv)
{
    struct epoll_event events[BATCH];
    struct sigaction term = {.sa_handler = on_term};
    sigset_t blocked;
    int wanted, told = 0;

    if (argc < 4 || argc > 5 || (wanted = atoi(argv[1])) < 1)
        return 2;
    command[0] = argv[2];
    command[1] = argv[3];
    command[3] = argv[4]; /* NULL if there is none */
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    sigaction(SIGTERM, &term, NULL);
    queue = epoll_create1(EPOLL_CLOEXEC);
    held = malloc(sizeof *held * (size_t)wanted);
    if (queue < 0 || !held)
        return 1;
    for (int index = 0; index < wanted; index++)
        spawn(index);
    while (alive) {
        int count = epoll_pwait(queue, events, BATCH, -1, &none);
        for (int i = 0; i < count; i++)
            reap((int)events[i].data.u32);
        if (!ending || told)
            continue;
        told = 1;
        for (int index = 0; index < wanted; index++)
            if (held[index] >= 0)
                syscall(SYS_pidfd_send_signal, held[index], SIGTERM, NULL, 0);
    }
    return 0;
}
