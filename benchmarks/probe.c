/* The service of every benchmark: reads CLOCK_MONOTONIC as its first act, tells the harness, sleeps.
 *
 *   probe SOCKET INDEX [FD|exit]     FD: write a newline there (readiness, as s6 wants it)
 *                                    exit: leave with 1 once the harness has been told; without a
 *                                    harness, stay. So a crash loop stops when the harness closes.
 *   probe                            take those words from the file "probe.args"
 *
 * The kernel adds the sender's pid to the datagram (SCM_CREDENTIALS).
 * When its supervisor dies it is killed: nothing of a benchmark outlives the benchmark. */
#include "nolibc.h"

static char words[512];

static int split(char *text, char **into, int most)
{
    int count = 0;
    while (count < most) {
        while (*text == ' ' || *text == '\n')
            *text++ = 0;
        if (!*text)
            break;
        into[count++] = text;
        while (*text && *text != ' ' && *text != '\n')
            text++;
    }
    return count;
}

__attribute__((noreturn, used)) void begin(long *stack)
{
    long started = now();
    int count = (int)stack[0] - 1;
    char **given = (char **)(stack + 2);
    char *read_here[3];
    long told;

    CALL(prctl, PR_SET_PDEATHSIG_, SIGKILL_, 0, 0);
    if (count < 2) {
        long fd = CALL(openat, AT_FDCWD_, "probe.args", SOCK_CLOEXEC_, 0);
        if (fd < 0 || CALL(read, fd, words, sizeof words - 1, 0) <= 0)
            leave(111);
        given = read_here;
        count = split(words, given, 3);
        if (count < 2)
            leave(111);
    }
    told = report(given[0], number(given[1]), started);
    if (count > 2 && given[2][0] == 'e') {
        if (told >= 0)
            leave(1);
    } else if (count > 2) {
        CALL(write, number(given[2]), "\n", 1, 0);
    }
    sleep_for_ever();
}
