/* The floor: a UDP responder that knows no DNS. It receives in batches, sets QR and NOERROR in place and sends
 * the batch back. What it costs is what any server pays to the kernel for the same system calls.
 *
 * usage: floor PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH 64
#define LONGEST 1472

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: floor PORT\n");
        return 2;
    }
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int size = 2 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("floor");
        return 1;
    }

    static unsigned char space[BATCH][LONGEST];
    static struct sockaddr_in peers[BATCH];
    static struct iovec slices[BATCH];
    static struct mmsghdr headers[BATCH];
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            slices[i] = (struct iovec){space[i], LONGEST};
            headers[i].msg_hdr = (struct msghdr){
                .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &slices[i], .msg_iovlen = 1};
        }
        int count = recvmmsg(fd, headers, BATCH, MSG_WAITFORONE, NULL);
        if (count < 0) {
            if (errno == EINTR)
                continue;
            perror("floor: recvmmsg");
            return 1;
        }
        for (int i = 0; i < count; i++) {
            slices[i].iov_len = headers[i].msg_len;
            if (headers[i].msg_len > 3) {
                space[i][2] |= 0x80;
                space[i][3] &= 0xf0;
            }
        }
        for (int sent = 0; sent < count;) {
            int n = sendmmsg(fd, headers + sent, count - sent, 0);
            sent += n > 0 ? n : 1;
        }
    }
}
