/* Start one subject: the moment before its exec is the zero of "launch to first service".
 *
 *   launch SOCKET DEATHSIG NOFILE PROGRAM [ARG...]
 *
 * Reports {-1, time} to SOCKET; DEATHSIG is what the subject gets if the harness dies;
 * NOFILE becomes its soft and hard RLIMIT_NOFILE (0 leaves them alone). */
#include "nolibc.h"

__attribute__((noreturn, used)) void begin(long *stack)
{
    long count = stack[0];
    char **argv = (char **)(stack + 1);
    char **environment = argv + count + 1;
    word limit[2];

    if (count < 5)
        leave(111);
    CALL(prctl, PR_SET_PDEATHSIG_, number(argv[2]), 0, 0);
    if (CALL(getppid, 0, 0, 0, 0) == 1)
        leave(111);
    limit[0] = limit[1] = (word)number(argv[3]);
    if (limit[0] && CALL(prlimit64, 0, RLIMIT_NOFILE_, limit, 0) < 0)
        leave(111);
    report(argv[1], -1, now());
    CALL(execve, argv[4], argv + 4, environment, 0);
    leave(127);
}
