"""A terminal to run commands in: a pseudo-terminal of some width, and a screen of what was written to it."""

import codecs
import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from contextlib import contextmanager

import pytest

CONTROL = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")


class Screen:
    """What a terminal with so many columns shows, and what a terminal should not be made to do.

    Attributes
    ----------
    broken : list of str
        Lines that went over the edge, where a terminal breaks them at any letter.
    overwritten : list of str
        Lines of which a letter was written over another one without clearing it.
    frames : list of str
        The whole screen whenever some of it was about to be cleared.
    """

    def __init__(self, width):
        self.width, self.rows, self.row, self.column = width, [{}], 0, 0
        self.broken, self.overwritten, self.frames = [], [], []

    def feed(self, text):
        while text:
            if match := CONTROL.match(text):
                self.control(*match.groups())
                text = text[match.end() :]
                continue
            assert not text.startswith("\x1b"), f"a sequence that this screen does not know: {text[:20]!r}"
            self.letter(text[0])
            text = text[1:]

    def control(self, private, number, letter):
        if letter == "A":
            self.row -= int(number or 1)
            assert self.row >= 0
        elif letter == "K":
            assert number == "2"
            if self.rows[self.row]:
                self.frames.append(self.text())
            self.rows[self.row] = {}
        else:
            assert letter == "m" or (private and letter in "hl"), (private, number, letter)

    def letter(self, letter):
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row, self.column = self.row + 1, 0
            self.rows += [{}] * 0 if self.row < len(self.rows) else [{}]
        else:
            if self.column >= self.width:
                self.broken.append(self.line(self.row) + letter)
                self.letter("\n")
            if self.rows[self.row].get(self.column, " ") != " ":
                self.overwritten.append(self.line(self.row))
            self.rows[self.row][self.column] = letter
            self.column += 1

    def line(self, row):
        cells = self.rows[row]
        return "".join(cells.get(i, " ") for i in range(max(cells, default=-1) + 1)).rstrip()

    def text(self):
        return "\n".join(map(self.line, range(len(self.rows)))).rstrip() + "\n"

    @property
    def lines(self):
        return self.text().splitlines()

    def assert_whole(self):
        assert self.broken == []
        assert self.overwritten == []


class Stream(io.TextIOWrapper):
    """A stream that can still be asked, once it is closed, if it is a terminal: colorama does when all is over."""

    def isatty(self):
        return not self.closed and super().isatty()


@contextmanager
def terminal(width, encoding):
    """Yield a screen and the terminal's other end, open for writing."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    screen, decoder = Screen(width), codecs.getincrementaldecoder(encoding)()

    def read():
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the end of a pseudo-terminal, on Linux
                return
            if not data:
                return
            received.append(decoder.decode(data))

    received = []
    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield screen, slave
    finally:
        os.close(slave)
        reader.join()
        os.close(master)
    screen.feed("".join(received))


def screen_of(main, *args, width, encoding, monkeypatch):
    """Run a command in this process with a terminal as its standard output and error; return (status, screen)."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal(width, encoding) as (screen, slave), monkeypatch.context() as patch:
        # Two streams on one terminal, as a shell gives them.
        for name in ("stdout", "stderr"):
            stream = Stream(
                io.FileIO(os.dup(slave), "w"), encoding=encoding, line_buffering=True, write_through=True
            )
            patch.setattr(sys, name, stream)
        with pytest.raises(SystemExit) as exit:
            main([str(arg) for arg in args])
        for stream in (sys.stdout, sys.stderr):
            stream.close()
    return exit.value.code, screen


def screen_of_process(command, *, width, encoding, environment):
    """Run a command line as a process of its own in a terminal; return (status, screen)."""
    with terminal(width, encoding) as (screen, slave):
        done = subprocess.run(command, stdin=slave, stdout=slave, stderr=slave, env=environment, timeout=300)
    return done.returncode, screen
