"""Where a preloaded interpreter is found, and what its name stands for.

Clients import this before anything else, so it uses neither pathlib nor typing, which take longer than all of it.
"""

from __future__ import annotations

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The workspace."""
LONGEST = 100
"""Bytes of a socket's path; Linux takes 107."""
PREFIXES = (
    "ARROW_",
    "ATEN_",
    "BLIS_",
    "CUBLAS_",
    "CUDA_",
    "CUDNN_",
    "DNNL_",
    "GOMP_",
    "GOTO_",
    "GX_",
    "HF_",
    "HUGGINGFACE_",
    "JE_",
    "JOBLIB_",
    "KMP_",
    "LC_",
    "LD_",
    "LOKY_",
    "MALLOC_",
    "MATPLOTLIB",
    "MIMALLOC_",
    "MKL_",
    "MPL",
    "NCCL_",
    "NPY_",
    "NUMBA_",
    "NUMEXPR_",
    "NUMPY_",
    "NVIDIA_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "OPENCV_",
    "OPENSSL_",
    "PANDAS_",
    "PILLOW_",
    "PYARROW_",
    "PYDANTIC_",
    "PYTHON",
    "PYTORCH_",
    "SCIPY_",
    "SKIMAGE_",
    "SKLEARN_",
    "TIMM_",
    "TORCH",
    "TQDM_",
)
NAMES = (
    "GLIBC_TUNABLES",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TMPDIR",
    "TZ",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
)
"""Beginnings and names of environment variables that are read when Python starts, or libraries and packages load."""


STATUS = ("Cap", "Mems_allowed:", "NoNewPrivs:", "Seccomp")
"""Lines of /proc/self/status that a process takes over from its parent."""


def folder() -> str:
    """Return the folder of sockets, which only the user can enter; it is made where it is missing.

    Raises:
        OSError: it cannot be made, or is somebody else's, or open to others.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    path = os.path.join(base, f"cose-{os.getuid()}")
    if not os.path.isabs(path) or len(os.fsencode(path)) + 50 > LONGEST:
        path = f"/tmp/cose-{os.getuid()}"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if found.st_uid != os.getuid() or found.st_mode & 0o170077 != 0o040000:
            raise PermissionError(
                f"{path}: found a folder of others, or one that others can enter, or no folder; "
                "allowed: a folder of your own with mode 700"
            ) from None
    return path


def workspace() -> str:
    """Return the first part of the name of every preloaded interpreter of this workspace."""
    return _digest(ROOT)


def name() -> str:
    """Return the name of the preloaded interpreter that may stand in for this process."""
    return f"{workspace()}-{_digest(repr(identity()))}"


def identity() -> list[object]:
    """Return all that a process takes over when it starts and imports, and that a request does not bring along."""
    import resource

    here = os.path.join(ROOT, "warm")
    code = [os.stat(os.path.join(here, file)).st_mtime_ns for file in sorted(os.listdir(here)) if file.endswith(".py")]
    limits = [getattr(resource, limit) for limit in dir(resource) if limit.startswith("RLIMIT_")]
    said = []
    for name in ("cgroup", "oom_score_adj", "status"):  # a group is a batch system's job, say, whose limits hold
        with open(f"/proc/self/{name}") as file:
            said += [line for line in file if name != "status" or line.startswith(STATUS)]
    variables = [one for one in os.environ.items() if one[0].startswith(PREFIXES) or one[0] in NAMES]
    return [
        code,
        os.uname().nodename,
        sys.executable,
        sys.prefix,
        sys.version,
        sys.flags,
        sorted(sys._xoptions.items()),
        sys.warnoptions,
        sorted(variables),
        [resource.getrlimit(limit) for limit in limits],
        sorted(os.sched_getaffinity(0)),
        os.sched_getscheduler(0),
        os.nice(0),
        said,
        [os.readlink(f"/proc/self/ns/{kind}") for kind in sorted(os.listdir("/proc/self/ns"))],
        os.readlink("/proc/self/root"),
        os.getresuid(),
        os.getresgid(),
        sorted(os.getgroups()),
    ]


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
