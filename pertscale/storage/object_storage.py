"""Object storage through fsspec: connections, and errors that say what to do.

Credentials come from where the storage's own tools take them (environment, ``~/.aws``, instance
roles; the endpoint from ``AWS_ENDPOINT_URL`` or fsspec's configuration), in every process anew:
they are never part of a URL, a task, or anything that is written.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pertscale.errors import ArgumentError, NotFoundError, PertscaleError, StorageError

if TYPE_CHECKING:
    from zarr.abc.store import Store

#: Settings of S3 connections, so that a storage that does not answer is noticed within a minute;
#: fsspec's configuration overrides them.
_S3_CONFIG: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 20,
    "max_pool_connections": 32,
    "retries": {"mode": "standard", "max_attempts": 2},
}
#: Names of exceptions of the libraries below fsspec, which need not be installed here.
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}
_UNREACHABLE = {
    "EndpointConnectionError",
    "ConnectionError",
    "ConnectTimeoutError",
    "HTTPClientError",
    "ClientConnectorError",
    "TimeoutError",
    "FSTimeoutError",
}
_LIBRARIES = ("aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs")


def filesystem(protocol: str, *, asynchronous: bool = False) -> Any:
    """Return the fsspec filesystem of a protocol: one per process, shared by its threads.

    fsspec itself makes one per thread, each with a session and connections of its own. Another
    environment (new credentials, another endpoint) gets another one.
    """
    import fsspec

    relevant = {k: v for k, v in os.environ.items() if k.startswith(("AWS_", "FSSPEC_"))}
    configured = fsspec.config.conf.get(protocol, {})
    state = hash((os.getpid(), repr(sorted(relevant.items())), repr(configured)))
    return _filesystem(protocol, asynchronous, state)


@lru_cache(maxsize=8)
def _filesystem(protocol: str, asynchronous: bool, state: int) -> Any:
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        extra = "'pertscale[s3]'" if protocol in ("s3", "s3a") else f"what fsspec needs: {error}"
        raise StorageError(
            f"{protocol}:// needs a package that is not installed; pip install {extra}"
        ) from error
    except ValueError as error:
        raise ArgumentError(
            f"{protocol}:// is not known; pass a path, or s3:// or another URL of fsspec"
        ) from error
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        configured = fsspec.config.conf.get(protocol, {})
        options["config_kwargs"] = {**_S3_CONFIG, **configured.get("config_kwargs", {})}
        # parts of one object: with more, s3fs asks for the size of each before it fetches it
        options["max_concurrency"] = configured.get("max_concurrency", 1)
    if kind.async_impl:
        made = kind(asynchronous=asynchronous, **options)
        if asynchronous:
            atexit.register(_close, made)
        return made
    if not asynchronous:
        return kind(**options)
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    return AsyncFileSystemWrapper(kind(**options), asynchronous=True)


def _close(made: Any) -> None:
    """Close the connections of a filesystem that zarr's thread uses; nobody else does."""
    session = getattr(getattr(made, "_s3", None), "_endpoint", None)
    for one in getattr(getattr(session, "http_session", None), "_sessions", {}).values():
        one.connector._close()


def zarr_store(protocol: str, key: str) -> Store:
    """Return a Zarr store, for reading; chunks are fetched by whoever reads them."""
    from zarr.storage import FsspecStore

    return FsspecStore(filesystem(protocol, asynchronous=True), path=key, read_only=True)


# --- errors ---------------------------------------------------------------------------------------


def hide_credentials(text: str) -> str:
    """Return a text without the credentials before the host of a URL."""
    return re.sub(r"://[^/\s@]*@", "://…@", text)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn the exceptions of storage libraries into errors that name the URL and what to do.

    A missing object stays a FileNotFoundError; a missing bucket does not. A condition of a request
    that does not hold is a FileExistsError. Errors of local paths pass unchanged.
    """
    try:
        yield
    except PertscaleError:
        raise
    except FileNotFoundError as error:
        if "bucket does not exist" in str(error):
            raise no_bucket_error(url) from error
        raise
    except FileExistsError:
        raise
    except Exception as error:
        if url.startswith("file:") or not ("://" in url or "FsspecStore" in url):
            raise
        if _code_of(error) in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise FileExistsError(url) from error
        if not isinstance(error, OSError) and not type(error).__module__.startswith(_LIBRARIES):
            raise
        raise StorageError(f"{url}: {_reason(error)}") from error


def _code_of(error: BaseException) -> str:
    """Return S3's code of an error that s3fs has translated."""
    response = getattr(error.__cause__ or error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _reason(error: BaseException) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    told = hide_credentials(str(error)) or type(error).__name__
    if names & _NO_CREDENTIALS:
        return (
            "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE "
            "with a profile in ~/.aws (on all workers)"
        )
    if isinstance(error, PermissionError):
        return (
            f"access denied ({told}); the credentials need to list and get below it, and to put "
            "and delete where it is written"
        )
    if names & _UNREACHABLE:
        return (
            f"the storage can't be reached ({told}); check the network, AWS_ENDPOINT_URL and "
            "AWS_DEFAULT_REGION"
        )
    return told


def no_bucket_error(url: str) -> NotFoundError:
    """Return the error for a bucket that is not there."""
    bucket = url.split("://", 1)[1].split("/", 1)[0]
    return NotFoundError(f"there is no bucket {bucket!r} ({url}); make it, or correct the name")
