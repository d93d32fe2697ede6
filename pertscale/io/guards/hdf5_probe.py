"""Walks through HDF5 files before anyone else; a small program, started by first_look.py.

On some damaged files HDF5 loops for ever or crashes, in C and with Python's lock held, where
nothing can interrupt it. Here only a process of this program is lost. Its limit is CPU time, step
by step: a slow disk or a busy machine does not count.

Python, NumPy and h5py take a third of a second to start, a fork of them some milliseconds. So the
program waits for requests, and forks for each. It ends when nobody is left who could ask.

Usage: python hdf5_probe.py SOCKET
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import h5py

#: What h5py raises on damage. The reader reports it better, when it gets to the same place.
_DAMAGE = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)
_DATA_BYTES = 2 << 30
#: Texts that are read together: some tenths of a second.
_TEXTS_AT_ONCE = 65_536


def main(number: int) -> None:
    """Serve requests: each is a connection, sent through the socket that was handed down."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    os.chdir("/")  # no folder is kept in use
    with socket.socket(fileno=number) as requests:
        while True:
            message, connections, _, _ = socket.recv_fds(requests, 1, 1)
            if not message:
                return
            with socket.socket(fileno=connections[0]) as connection:
                if _fork(connection) == 0:
                    requests.close()
                    _answer(connection)
                    os._exit(0)


def _fork(connection: socket.socket) -> int:
    try:
        return os.fork()
    except OSError as error:
        connection.sendall(_message(error=error.strerror))
        return -1


def _answer(connection: socket.socket) -> None:
    """Look at the file in one more process, and say how that one ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    child = _fork(connection)
    if child == 0:
        os.dup2(connection.fileno(), 2)  # what it has to say, should it fail
        look(request["path"], request["seconds"])
        os._exit(0)
    if child > 0:
        status = os.waitpid(child, 0)[1]
        connection.sendall(_message(ended=os.waitstatus_to_exitcode(status)))


def _message(**content: Any) -> bytes:
    return f"\n{json.dumps(content)}\n".encode()


def look(path: str, seconds: int) -> None:
    """Read what HDF5 reads through its own structures: links, attributes, chunk indices, text."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_DATA_BYTES, _DATA_BYTES))
    _allow(seconds)
    try:
        file = h5py.File(path, "r", locking=False)
    except _DAMAGE:
        return
    for step in _steps(file):
        _allow(seconds)
        try:
            step()
        except _DAMAGE:
            continue


def _allow(seconds: int) -> None:
    """Let the system end this process after some more seconds of work."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )


def _steps(file: h5py.File) -> Iterator[Any]:
    """Yield functions that read a piece each; links to other files are not followed."""
    waiting, seen = [file["/"]], set()
    while waiting:
        node = waiting.pop()
        for name in _listed(node.attrs):
            yield lambda node=node, name=name: node.attrs[name]
        if isinstance(node, h5py.Dataset):
            yield from _steps_of_dataset(node)
        if not isinstance(node, h5py.Group):
            continue
        for name in _listed(node):
            try:
                if not _is_inside(node, name):
                    continue
                child = node[name]
                identity = hash(child.id)
            except _DAMAGE:
                continue
            if identity not in seen:
                seen.add(identity)
                waiting.append(child)


def _listed(node: Any) -> list[str]:
    try:
        return list(node)
    except _DAMAGE:
        return []


def _is_inside(group: h5py.Group, name: str) -> bool:
    return group.get(name, getlink=True, getclass=True) is h5py.HardLink


def _steps_of_dataset(dataset: h5py.Dataset) -> Iterator[Any]:
    try:
        shape, chunks = dataset.shape or (), dataset.chunks
        if chunks:
            wanted = math.prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
            stored = dataset.id.get_num_chunks() == wanted
        else:
            stored = dataset.id.get_storage_size() > 0
        if not (stored and dataset.dtype.hasobject) or dataset.external or dataset.is_virtual:
            return
    except _DAMAGE:
        return
    if not shape:
        yield lambda: dataset[()]
    for start in range(0, shape[0] if shape else 0, _TEXTS_AT_ONCE):
        yield lambda start=start: dataset[start : start + _TEXTS_AT_ONCE]


if __name__ == "__main__":
    main(int(sys.argv[1]))
