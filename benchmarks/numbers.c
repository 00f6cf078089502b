/* numbers WORD LINES_A_TICK TICK_US LINES REPORT: write lines of 100 bytes to standard output, each
 * with WORD and its number, so that it is known of each whether it has arrived: LINES_A_TICK lines,
 * each by a write of its own, every TICK_US microseconds. With a tick of 0 LINES_A_TICK go in each
 * write, and the next follows at once.
 *
 * After LINES of them, or a SIGTERM, it writes to the file REPORT how many went out, and ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LINE 100

static volatile sig_atomic_t over;

static void end(int number)
{
    (void)number;
    over = 1;
}

static void put(const char *data, long size)
{
    while (size > 0) {
        ssize_t done = write(1, data, size);
        if (done < 0 && errno == EINTR)
            continue; /* a line that was begun is ended */
        if (done < 0)
            exit(3);
        data += done;
        size -= done;
    }
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    long lines = atol(argv[2]), tick = atol(argv[3]), total = atol(argv[4]), done = 0;
    char *room = malloc(lines * LINE + 1);
    for (long i = 0; i < lines; i++) {
        char *line = room + i * LINE;
        int head = snprintf(line, LINE, "%010d %-8.8s ", 0, argv[1]);
        for (int at = head; at < LINE - 1; at++)
            line[at] = 'a' + at % 23;
        line[LINE - 1] = '\n';
    }
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (done < total && !over) {
        long now = total - done < lines ? total - done : lines;
        for (long i = 0; i < now; i++) {
            char number[11];
            snprintf(number, sizeof number, "%010ld", done + i);
            memcpy(room + i * LINE, number, 10);
            if (tick)
                put(room + i * LINE, LINE);
        }
        if (!tick)
            put(room, now * LINE);
        done += now;
        if (tick) {
            next.tv_nsec += tick * 1000;
            next.tv_sec += next.tv_nsec / 1000000000;
            next.tv_nsec %= 1000000000;
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        }
    }
    FILE *report = fopen(argv[5], "w");
    if (!report)
        return 4;
    fprintf(report, "%ld\n", done);
    return fclose(report) ? 5 : 0;
}
