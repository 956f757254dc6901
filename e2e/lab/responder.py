"""The endpoint of a lab node: answers each HTTP request and each datagram on port 8080 with the node's name."""

import selectors
import socket
import sys


def main(name: str) -> None:
    body = f"{name}\n".encode()
    answer = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
    tcp = socket.create_server(("", 8080), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind(("", 8080))
    events = selectors.DefaultSelector()
    events.register(tcp, selectors.EVENT_READ)
    events.register(udp, selectors.EVENT_READ)
    tcp.setblocking(False)
    udp.setblocking(False)
    while True:
        for key, _ in events.select():
            try:
                if key.fileobj is tcp:
                    connection, _ = tcp.accept()
                    connection.setblocking(False)
                    events.register(connection, selectors.EVENT_READ)
                elif key.fileobj is udp:
                    request, sender = udp.recvfrom(2048)
                    udp.sendto(request + b" " + body, sender)
                else:
                    events.unregister(key.fileobj)
                    with key.fileobj as connection:
                        if connection.recv(4096):
                            connection.send(answer)
            except OSError:
                continue


if __name__ == "__main__":
    main(sys.argv[1])
