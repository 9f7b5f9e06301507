"""Archives that are downloaded: whole, the right ones, or not at all."""

from __future__ import annotations

import io
import shutil
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from pipeline.core.errors import UserError
from pipeline.data.archives import Archive, unpacked
from pipeline.data.download import download
from tests.data.published import md5

pytestmark = pytest.mark.usefixtures("scratch")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """Serve a folder with CIFAR's archive on this machine; return the folder and the archive's address."""
    folder = Path(shutil.copytree(archives["cifar10"], tmp_path / "site"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/{CIFAR}"
        server.shutdown()


CIFAR = "cifar-10-python.tar.gz"


def downloadable(source: Path, url: str) -> dict[str, Archive]:
    return {"cifar-10-batches-py": Archive(source.name, url, md5(source))}


def test_a_missing_archive_is_downloaded(site: tuple[Path, str], tmp_path: Path) -> None:
    source, folder = site[0] / CIFAR, tmp_path / "new" / "folder"
    contents = downloadable(source, site[1])
    with unpacked(str(folder), contents) as places:
        assert (places["cifar-10-batches-py"] / "batches.meta").is_file()
    assert [file.name for file in folder.iterdir()] == [CIFAR]
    assert md5(folder / CIFAR) == md5(source)
    source.unlink()
    with unpacked(str(folder), contents) as places:
        assert (places["cifar-10-batches-py"] / "batches.meta").is_file()


def test_a_download_that_is_not_the_publishers_leaves_nothing(site: tuple[Path, str], tmp_path: Path) -> None:
    source, folder = site[0] / CIFAR, tmp_path / "folder"
    contents = downloadable(source, site[1])
    allowed = md5(source)
    source.write_bytes(b"<html>Please log in</html>")
    with pytest.raises(UserError) as caught, unpacked(str(folder), contents):
        pass
    assert str(caught.value) == (
        f"{site[1]}: found 26 bytes with the MD5 checksum {md5(source)}; allowed: {allowed}; "
        f"it is cut short or another file, place the right one at {folder}/{CIFAR}"
    )
    assert list(folder.iterdir()) == []
    source.unlink()
    reason = r"it could not be downloaded \(404 Client Error: File not found for url: .*\); allowed in"
    with pytest.raises(UserError, match=reason), unpacked(str(folder), contents):
        pass
    assert list(folder.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(
    archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(source: BinaryIO, target: BinaryIO) -> None:
        target.write(b"the beginning")
        raise OSError("no\nroute")

    monkeypatch.setattr("pipeline.data.download.shutil.copyfileobj", break_off)
    archive = archives["cifar10"] / CIFAR
    contents = downloadable(archive, archive.as_uri())
    reason = r"it could not be downloaded \(no route\)"
    with pytest.raises(UserError, match=reason), unpacked(str(tmp_path / "folder"), contents):
        pass
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_server_that_does_not_answer_is_given_up(
    archives: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.download.TIMEOUT", 0.2)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        contents = downloadable(archives["cifar10"] / CIFAR, f"http://127.0.0.1:{silent.getsockname()[1]}/{CIFAR}")
        with pytest.raises(UserError, match="timed out"), unpacked(str(tmp_path / "folder"), contents):
            pass
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(archives: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    contents = downloadable(archives["cifar10"] / CIFAR, "http://127.0.0.1/nowhere")
    reason = r"file/cifar-10-python\.tar\.gz: there is no such file, and it could not be downloaded \("
    with pytest.raises(UserError, match=reason), unpacked(str(tmp_path / "file"), contents):
        pass


class Encoded(Quiet):
    """Calls the compression of an archive an encoding, as some servers do."""

    def end_headers(self) -> None:
        self.send_header("Content-Encoding", "x-gzip")
        super().end_headers()


def test_an_archives_own_compression_stays(archives: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = archives["cifar10"] / CIFAR
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Encoded, directory=str(source.parent))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        download(f"http://127.0.0.1:{server.server_port}/{CIFAR}", tmp_path / CIFAR, lambda _: None, "")
        server.shutdown()
    assert (tmp_path / CIFAR).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("target", "followed"), [("http://127.0.0.1/x", False), ("https://example.org/y", True)])
def test_a_way_from_https_stays_on_https(target: str, followed: bool, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[str] = []

    def send(self: HTTPAdapter, request: Any, **_: Any) -> Any:
        asked.append(request.url)
        first = len(asked) == 1
        headers = {"location": target} if first else {}
        raw = HTTPResponse(io.BytesIO(b"pixels"), headers, 302 if first else 200, preload_content=False)
        return self.build_response(request, raw)

    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    if followed:
        download("https://example.org/x", tmp_path / "x", lambda _: None, "")
        assert (tmp_path / "x").read_bytes() == b"pixels"
    else:
        with pytest.raises(
            UserError, match=r"could not be downloaded \(it leads from https to http://127\.0\.0\.1/x\)"
        ):
            download("https://example.org/x", tmp_path / "x", lambda _: None, "")
        assert asked == ["https://example.org/x"]
        assert not list(tmp_path.glob("*x*"))
