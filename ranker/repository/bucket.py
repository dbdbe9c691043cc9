"""A prefix in a bucket of Google Cloud Storage or S3 as a place of files.

obstore finds credentials by itself. For `gs://`: the file that
GOOGLE_APPLICATION_CREDENTIALS names, gcloud's application-default credentials, or the
metadata server, which is how workload identity works on GKE. For `s3://`: the
variables AWS_ACCESS_KEY_ID and so on, web identity, or the instance's role. It also
retries what may succeed at the next try.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.distribution import require
from ranker.errors import SourceError, SourceUnavailableError
from ranker.memory_file import Content

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_RETRIES = 4
_RETRY_SECONDS = 20
"""From the first request on; after it no further try is made."""

_REQUEST_SECONDS = 30
_SLOWEST_UPLOAD = 250_000
"""Bytes a second: a model goes up in one request, which must not time out before it has ended."""

_LONGEST_REASON = 500

_ENDPOINTS = {
    "gs": ("GOOGLE_BASE_URL",),
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
}
"""The variables that obstore takes another server's address from, by the kind of bucket."""


class Bucket:
    """A prefix in a bucket; see `Place`.

    Args:
        address: `gs://BUCKET/PREFIX` or `s3://BUCKET/PREFIX`.

    Raises:
        MissingExtraError: the extra `remote` is not installed.
        SourceError: the address lacks the bucket or the prefix, or the environment's
            settings are wrong.
    """

    def __init__(self, address: str) -> None:
        require("remote")
        self.address = address
        scheme, _, rest = address.partition("://")
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.strip("/")
        if not bucket or not prefix:
            raise SourceError(address, "", f"expected a bucket and a path: {scheme}://bucket/path")
        self._scheme, self._bucket, self._prefix = scheme, bucket, prefix
        self._store = self._open(_REQUEST_SECONDS)

    def _open(self, seconds: float) -> Any:
        """A connection whose requests may take so long."""
        from obstore.store import GCSStore, S3Store

        endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS[self._scheme])), "")
        client: ClientConfig = {"timeout": timedelta(seconds=seconds)}
        if endpoint.startswith("http://"):  # an emulator
            client["allow_http"] = True
        retry: RetryConfig = {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
        }
        store = GCSStore if self._scheme == "gs" else S3Store
        with self._errors("can't be opened"):
            return store(
                self._bucket, prefix=self._prefix, client_options=client, retry_config=retry
            )

    def list(self) -> Sequence[str]:
        """See `Place`."""
        import obstore

        with self._errors("can't be listed"):
            return [found["path"] for page in obstore.list(self._store) for found in page]

    def size(self, key: str) -> int:
        """See `Place`."""
        import obstore

        with self._errors(f"{key} can't be read"):
            return obstore.head(self._store, key)["size"]

    def read(self, key: str, start: int, length: int) -> bytes:
        """See `Place`."""
        import obstore

        with self._errors(f"{key} can't be read"):
            return bytes(obstore.get_range(self._store, key, start=start, length=length))

    def create(self, key: str, content: Content) -> None:
        """In one request, for only that is refused by the bucket if the file is there."""
        import obstore

        store = self._open(max(_REQUEST_SECONDS, len(content) / _SLOWEST_UPLOAD))
        with self._errors(f"{key} can't be written"):
            try:
                obstore.put(store, key, memoryview(content), mode="create", use_multipart=False)
            except FileNotFoundError as error:
                raise self._no_bucket() from error

    def read_object(self, most: int) -> tuple[bytes, str]:
        """The object at the very address of this place.

        Args:
            most: the most bytes that it may have.

        Returns:
            Its bytes, and a stamp for `replace_object`.

        Raises:
            FileNotFoundError: there is no such object.
            SourceError: it can't be read, or is larger.
        """
        import obstore

        with self._errors("can't be read"):
            found = obstore.get(self._store, "")
            size = found.meta["size"]
            if size > most:
                raise SourceError(self.address, "", f"expected at most {most} bytes, got {size}")
            which = {name: found.meta[name] for name in ("e_tag", "version")}
            known = {name: value for name, value in which.items() if value is not None}
            return bytes(found.bytes()), json.dumps(known)

    def replace_object(self, content: bytes, stamp: str) -> None:
        """Writes the object anew, if it is still the one that was read.

        Raises:
            FileExistsError: it is another one by now.
            SourceError: it can't be written.
        """
        import obstore
        from obstore import exceptions

        with self._errors("can't be written"):
            try:
                obstore.put(self._store, "", content, mode=json.loads(stamp), use_multipart=False)
            except exceptions.PreconditionError as error:
                raise FileExistsError(self.address) from error

    def path(self, key: str) -> Path | None:  # noqa: ARG002
        """None; see `Place`."""
        return None

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turns obstore's errors into ours."""
        from obstore import exceptions

        try:
            yield
        except FileNotFoundError as error:
            # A missing bucket is told in the same way as a missing file, but for its name.
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from error
            raise
        except (SourceError, FileExistsError):
            raise
        except exceptions.AlreadyExistsError as error:
            raise FileExistsError(what) from error
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explained(what, _reason(error)) from error

    def _explained(self, what: str, reason: str) -> SourceError:
        """The error for what obstore says, by the status that it found."""
        status = re.search(r"status code: (\d+)", reason)
        number = int(status[1]) if status else 0
        lasting = 400 <= number < 500 and number not in (408, 429)
        kind = SourceError if lasting else SourceUnavailableError
        if "token request" in reason:
            advice = "no usable credentials; for a person: gcloud auth application-default login"
            return kind(self.address, "", f"{what}: {advice}: {reason}")
        if number in (401, 403):
            advice = "access denied; expected credentials that may"
            return SourceError(self.address, "", f"{what}: {advice}: {reason}")
        if number == 404:  # of a listing; that of a file is told otherwise
            return self._no_bucket()
        return kind(self.address, "", f"{what}: {reason}")

    def _no_bucket(self) -> SourceError:
        return SourceError(self.address, "", f"there is no bucket {self._bucket}")


def _reason(error: Exception) -> str:
    """What obstore says to people: its first lines, the rest being for its developers."""
    text = " ".join(str(error).partition("\n\nDebug source")[0].split())
    return text if len(text) < _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
