"""Where the program starts. Nothing is imported here that takes time, so that a signal always finds its handler."""

import gc
import os
import signal
import sys


def main() -> int:
    """Run the command line and return the exit code."""
    # While torch is imported, walking its million new objects again and again takes a third of a second. The command
    # line turns garbage collection on again.
    gc.disable()
    # Until a run exists there is nothing to save, so Ctrl-C kills the process as it kills any other.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # The number of a closed stream must not be given to a file of the run.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)

    from mlpx.cli.app import run

    code = run(sys.argv[1:])
    # Everything goes with the process; a last walk over it would take a third of a second more.
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(main())
