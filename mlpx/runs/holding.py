"""Holding a folder: one process at a time, on one machine or on several that share a disk.

On one machine a lock of the kernel (``flock``) is enough: it is free at once when its process ends, however that
happens. On a shared disk a lock may be refused, or be granted on two machines at once. So the holder also makes a
claim, the folder ``claims/N``, whose number is one more than that of the claim before it:

- It is made under another name and then renamed, which fails for all but one of those who try to make the same one.
- Its time of modification is a lease. The holder renews it, and another machine may take the folder over when that
  has not happened for :data:`LEASE_SECONDS`. Only the clock of the file server is asked, so the clocks of the machines
  may differ.
- Its number is a fencing token: a holder that was stopped for so long that another one has claimed the folder finds the
  higher number before it renames or removes a file, and ends. The rows that it adds until then go to a ``metrics.csv``
  whose place the new holder gives to another one.

Source: C. Gray and D. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
1989. Fencing tokens: M. Kleppmann, "Designing Data-Intensive Applications", 2017, chapter 8.
"""

import contextlib
import errno
import fcntl
import os
import platform
import re
import shutil
import threading
import time
from pathlib import Path
from typing import NamedTuple, Self

from mlpx.errors import Locked
from mlpx.files import read_regular, remove_all, temporaries, temporary_for

LEASE_SECONDS = 90.0
RENEWALS = 6
"""How often a holder renews its claim while a lease lasts."""
PROBE_SECONDS = 0.5
"""A lock that is taken is tried again for this long, since who only reads runs takes it for an instant."""
LOCK = "lock"
CLAIMS = "claims"
HOLDER = "holder"
NUMBER = re.compile(r"[1-9][0-9]*")
LONG_AGO = 946_684_800.0
"""The time of modification (the year 2000) of a claim that was given up. ZIP archives have no time before 1980."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""What ``flock`` fails with on a file system without locks."""


class Hold:
    """A folder that this process holds, until :meth:`release` or the end of the process.

    ``path`` is where the folder lies; whoever renames the folder must change it.
    """

    def __init__(self, path: Path) -> None:
        """Take the folder.

        Raises:
            Locked: Another process holds it.
            OSError: The lock or the claim cannot be made.
        """
        self.path = path
        self._number = 0
        self._released = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            self._number = _claim(path, _wait_for_lock(self._lock, path))
            me = f"{_myself()}\n".encode()
            os.pwrite(self._lock, me, 0)
            os.ftruncate(self._lock, len(me))
            self._start_renewing()
        except BaseException:
            self.release()
            raise

    @classmethod
    def wait_for(cls, path: Path) -> Self:
        """Take the folder as soon as no other process holds it.

        Raises:
            OSError: The lock or the claim cannot be made.
        """
        while True:
            try:
                return cls(path)
            except Locked:
                time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Let the folder go. Where another process has taken it over, whatever failed is reported as that."""
        try:
            if isinstance(error, Exception) and not isinstance(error, Locked):
                # The disk may be what failed.
                with contextlib.suppress(OSError):
                    self.require()
        finally:
            self.release()

    @property
    def _claim_folder(self) -> Path:
        return self.path / CLAIMS / str(self._number)

    def _start_renewing(self) -> None:
        try:
            self._renewing.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread can be started", str(self.path)) from error

    def _renew(self) -> None:
        while not self._released.wait(LEASE_SECONDS / RENEWALS):
            # Where this fails for longer than a lease, another process may take over, and then the number tells.
            with contextlib.suppress(OSError):
                os.utime(self._claim_folder)

    def require(self) -> None:
        """Check that no other process has taken the folder over, before something is written.

        Raises:
            Locked: One has.
            OSError: The claims cannot be read, as when they or the folder were deleted.
        """
        newest = _newest(self.path)
        if newest < self._number:
            raise FileNotFoundError(errno.ENOENT, "the claim of this process was deleted", str(self._claim_folder))
        if newest > self._number:
            why = f"was taken over by {_holder(self.path / CLAIMS / str(newest)).words}"
            remedy = f"That one goes on with it, since this one had stood still for more than {LEASE_SECONDS:.0f} s."
            raise Locked(self.path, why, remedy)

    def release(self) -> None:
        """Let the folder go: the next holder, on whatever machine, need not wait."""
        self._released.set()
        if self._renewing.is_alive():
            self._renewing.join()
        with contextlib.suppress(OSError):
            os.utime(self._claim_folder, (LONG_AGO, LONG_AGO))
        os.close(self._lock)


def is_held(path: Path) -> bool:
    """Whether a live process holds the folder ``path``, or, where no one can tell, might hold it.

    The lock is tried for an instant, shared, so that readers do not hinder one another.
    """
    try:
        lock = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno != errno.ELOOP  # a link is not what mlpx makes
    try:
        granted = _try_lock(lock, fcntl.LOCK_SH)
        if granted is False:
            return True
        newest = _newest(path)
        claim = path / CLAIMS / str(newest)
        if not newest or (granted and _is_gone(claim, _domain(lock))):
            return False
        return _is_fresh(claim, _now(claim.parent))
    except OSError:
        return True
    finally:
        os.close(lock)


def _wait_for_lock(descriptor: int, path: Path) -> str:
    """Lock the file; returns the domain in which the kernel keeps other processes out, or nothing where it does not.

    Raises:
        Locked: Another process has it.
        OSError: It cannot be locked, and not because the file system has no locks.
    """
    until = time.monotonic() + PROBE_SECONDS
    while (granted := _try_lock(descriptor, fcntl.LOCK_EX)) is False:
        if time.monotonic() >= until:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "another process"
            raise Locked(path, f"is held by {holder}", "Wait for it, or stop it.")
        time.sleep(0.01)
    return _domain(descriptor) if granted and _excludes(path) else ""


def _try_lock(descriptor: int, kind: int) -> bool | None:
    """Whether the lock was granted; ``None`` where the file system has no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


def _excludes(path: Path) -> bool:
    """Whether the lock, which this process has, is refused to others, which some file systems only pretend to do."""
    other = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        # A network file system has no exclusive lock for who may only read.
        return _try_lock(other, fcntl.LOCK_SH) is False
    finally:
        os.close(other)


def _claim(path: Path, domain: str) -> int:
    """Make the next claim, and return its number.

    Args:
        path: The folder to hold.
        domain: The domain in which the lock, which this process has, keeps others out; empty where it does not.

    Raises:
        Locked: The newest claim may be that of a live process, or another process makes the next one just now.
        OSError: It cannot be made.
    """
    claims = path / CLAIMS
    with contextlib.suppress(FileExistsError):
        claims.mkdir()
    newest = _newest(path)
    before, mine = claims / str(newest), claims / str(newest + 1)
    made = temporary_for(mine)
    made.mkdir()
    try:
        (made / HOLDER).write_text(f"{_myself()}\n{domain}\n")
        now = _renewed(made)
        if newest and not _is_gone(before, domain) and _is_fresh(before, now):
            raise _held(before, now - _renewed(before))
        # These are for the same number or a lower one, so they come too late once this one is there.
        others = temporaries(claims)
        os.rename(made, mine)
    except (OSError, Locked):
        shutil.rmtree(made, ignore_errors=True)
        if _newest(path) > newest:
            raise _held(mine, 0.0) from None
        raise
    remove_all(others)
    return newest + 1


def _held(claim: Path, age: float) -> Locked:
    why = f"is held by {_holder(claim).words}, seen {max(0.0, age):.0f} s ago"
    remedy = f"Wait for it, or, if it is gone, for {LEASE_SECONDS:.0f} s without a sign of it."
    return Locked(claim.parent.parent, why, remedy)


def _newest(path: Path) -> int:
    """The number of the newest claim; 0 where there is none."""
    try:
        # Opening a folder makes a network file system ask the server what is in it now.
        names = os.listdir(path / CLAIMS)
    except FileNotFoundError:
        path.stat()
        return 0
    return max((int(name) for name in names if NUMBER.fullmatch(name)), default=0)


class _Holder(NamedTuple):
    """Who made a claim: in words, and the domain in which its lock kept others out."""

    words: str
    domain: str


def _holder(claim: Path) -> _Holder:
    try:
        words, domain, *_ = read_regular(claim / HOLDER, 1000).decode(errors="replace").split("\n")
        return _Holder(words, domain)
    except (OSError, ValueError):
        return _Holder("another process", "")


def _is_gone(claim: Path, domain: str) -> bool:
    """Whether the process that made the claim has ended: it had the lock in this domain, and now another one has it."""
    return bool(domain) and _holder(claim).domain == domain


def _is_fresh(claim: Path, now: float) -> bool:
    # A claim from the future was made before the server's clock was set back, or has been renewed a moment ago.
    return abs(now - _renewed(claim)) < LEASE_SECONDS


def _renewed(claim: Path) -> float:
    return _modified(claim, os.O_RDONLY | os.O_DIRECTORY)


def _now(claims: Path) -> float:
    """The time by the clock of the file server."""
    probe = temporary_for(claims / "clock")
    try:
        now = _modified(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except OSError:
        # Who may only read the folder has no clock but its own.
        return time.time()
    probe.unlink(missing_ok=True)
    return now


def _modified(path: Path, flags: int) -> float:
    # Opening it makes a network file system ask the server, and not a cache.
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _myself() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _domain(lock: int) -> str:
    """What tells the kernel that grants this lock, and the mount that it lies on, from any other.

    The containers of a machine share its kernel, whatever their names, but not always the mount.
    """
    return f"{_boot()} {os.fstat(lock).st_dev}"


def _boot() -> str:
    """What tells this start of this machine from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()
