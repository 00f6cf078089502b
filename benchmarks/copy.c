/* copy FILE: the least a logger can be: read up to 64 KiB, write it to the file. */
#include <fcntl.h>
#include <unistd.h>

static char room[65536];

int main(int argc, char **argv)
{
    int fd = argc == 2 ? open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0640) : -1;
    ssize_t size;
    if (fd < 0)
        return 2;
    while ((size = read(0, room, sizeof room)) > 0)
        if (write(fd, room, size) != size)
            return 3;
    return size < 0;
}
