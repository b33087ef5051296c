"""A shell starts what runs in the background with Ctrl-C ignored, and children inherit that: not so the tests."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
