"""Stores and outputs on object storage: real requests to moto's S3 server on loopback."""

from __future__ import annotations

import http.server
import json
import logging
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dask
import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

import pertscale as ps
from pertscale.cli import main
from pertscale.errors import (
    ArgumentError,
    CorruptFileError,
    ExistsError,
    InputError,
    LockedError,
    NotFoundError,
    StorageError,
)
from pertscale.io.store import layout
from pertscale.io.store.matrix import MatrixReader
from pertscale.report import write_report
from pertscale.schema import REPLICATES
from pertscale.stats import rank_sum, read_labels, read_pseudobulk
from pertscale.storage import object_storage, remote_lock
from pertscale.storage.locations import Remote, locate
from pertscale.storage.lock_owner import heartbeat, this_process
from pertscale.storage.remote_lock import RemoteLock, lock_of, locked_remote
from pertscale.storage.scratch import scratch_root

KEY, SECRET = "AKIAPERTSCALETEST", "neverWrittenAnywhere0123456789"
pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.once]

#: One small unit of the benchmark.
ONLY = {
    "methods": ["majority_vote"],
    "tasks": ["within"],
    "settings": ["full"],
    "seed": 0,
    "quiet": True,
}


class Requests(logging.Handler):
    """Requests that the server got: method and path."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP", record.getMessage())
        if found:
            self.all.append(f"{found[1]} {found[2]}")

    def matching(self, pattern: str) -> list[str]:
        return [one for one in self.all if re.search(pattern, one)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Requests]:
    """The S3 server; credentials and endpoint in the environment, as users have them."""
    logger, requests = logging.getLogger("werkzeug"), Requests()
    logger.addHandler(requests)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("PERTSCALE_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        fsspec.filesystem("s3").mkdir("bucket")
        yield requests
    running.stop()
    logger.removeHandler(requests)


@pytest.fixture
def requests(server) -> Requests:
    """Requests of this test."""
    server.all.clear()
    return server


@pytest.fixture(scope="module")
def published(server, example, without_report, tmp_path_factory) -> SimpleNamespace:
    """The whole path, once on a disk and once on object storage."""
    folder = tmp_path_factory.mktemp("local")
    url = ps.io.ingest(example.source, "s3://bucket/example.zarr", quiet=True)
    local = ps.run_benchmark(example.screen, out=folder / "run", **ONLY)
    with pytest.MonkeyPatch.context() as patch:  # the only report that is drawn
        patch.setattr("pertscale.report.write_report", write_report)
        result = ps.run_benchmark(str(url), out="s3://bucket/run", **ONLY)
    return SimpleNamespace(url=str(url), result=result, local=local, screen=example.screen)


def objects(url: str) -> dict[str, bytes]:
    """All objects below a URL by relative name."""
    where = locate(url)
    return {name: (where / name).read_bytes() for name in where.objects()}


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def upload(folder: Path, url: str) -> str:
    for name, data in files(folder).items():
        (locate(url) / name).write_bytes(data)
    return url


def tables(found: dict[str, bytes]) -> dict[str, bytes]:
    """Those that do not depend on the time of day."""
    made = ("labels/", "pseudobulk.zarr/", "halves.zarr/", "null_tests.zarr/")
    return {n: d for n, d in found.items() if n.startswith(made)}


# --- the whole path -------------------------------------------------------------------------------


def test_store_has_the_bytes_of_one_on_a_disk(published):
    assert objects(published.url) == files(Path(published.screen.path))


def test_labels_and_scores_are_those_of_a_local_run(published):
    ours, theirs = objects("s3://bucket/run"), files(published.local.path)
    assert len(tables(ours)) > 10
    assert tables(ours) == tables(theirs)
    assert ours["scores.parquet"] == theirs["scores.parquet"]
    assert {n.split("/")[0] for n in ours} == {n.split("/")[0] for n in theirs} - {".lock"}


def test_result_is_read_directly(published):
    result, local = ps.read_result("s3://bucket/run"), published.local
    assert result.scores.equals(local.scores)
    assert result.splits == local.splits
    assert result.summary().equals(local.summary())
    ours, theirs = result.labels, local.labels
    name = theirs.perturbations["perturbation"][0]
    assert ours.to_pandas(perturbation=name).equals(theirs.to_pandas(perturbation=name))
    assert len(ours.frame) == len(theirs.frame)
    assert np.array_equal(ours.matrix("beta").values, theirs.matrix("beta").values)
    assert result.pseudobulk.equals(local.pseudobulk)
    unit = {
        "context": "beta",
        "labels": "full",
        "split": "holdout-seed0",
        "method": "majority_vote",
    }
    assert result.predictions(**unit).equals(local.predictions(**unit))
    assert str(result.report) == "s3://bucket/run/report.html"
    assert "s3://bucket/run" in repr(result) and "s3://bucket/run" in result._repr_html_()
    assert "s3://bucket/run/labels" in ours._repr_html_()
    assert b"</html>" in result.report.read_bytes()


def test_screen_is_read_directly(published):
    screen = ps.open_screen(published.url)
    assert screen.path == published.url
    assert screen.fingerprint == published.screen.fingerprint
    assert screen.obs.equals(published.screen.obs)
    assert "example.zarr" in screen._repr_html_()
    there, here = screen.to_xarray(), published.screen.to_xarray()
    assert np.array_equal(there["counts"][:50].values, here["counts"][:50].values)


def test_again_nothing_is_computed_and_credentials_are_nowhere(published, requests, capfd, caplog):
    with caplog.at_level(logging.INFO):
        loud = {**ONLY, "quiet": False}
        again = ps.run_benchmark(published.url, out="s3://bucket/run", **loud)
    stages = again.timings[again.timings["level"] == "stage"]
    assert stages.loc[stages["stage"] != "report", "reused"].all()
    put = {one.rsplit("/", 1)[1] for one in requests.matching("^PUT")}
    assert put <= {".run.lock", "timings.parquet", "log.jsonl", "report.html", "manifest.json"}
    assert not requests.matching("^GET.*/X/c/")  # the matrix
    assert not requests.matching("^GET.*/predictions/.*/c/")  # what scratch has
    told = capfd.readouterr()
    written = b"".join([*objects("s3://bucket").values(), *files(scratch_root()).values()])
    assert len(written) > 1e6
    for secret in (SECRET, KEY):
        assert secret not in told.out + told.err + caplog.text
        assert secret.encode() not in written


def test_again_from_another_machine_nothing_is_computed(published, requests):
    n_objects = len(locate("s3://bucket/run").objects())
    shutil.rmtree(scratch_root())
    requests.all.clear()
    again = ps.run_benchmark(published.url, out="s3://bucket/run", **ONLY)
    stages = again.timings[again.timings["level"] == "stage"]
    assert stages.loc[stages["stage"] != "report", "reused"].all()
    assert not requests.matching("^GET.*/X/c/")
    assert len(requests.matching("^GET")) <= n_objects + 30
    assert len(requests.matching("^PUT")) <= 6
    assert tables(objects("s3://bucket/run")) == tables(files(published.local.path))


def test_every_chunk_is_one_request_or_two(published, requests, tmp_path):
    """The controls of a block are sampled to plan the tiles; the rest is read once."""
    rank_sum(published.url, out=tmp_path, replicates=REPLICATES, quiet=True)
    chunks = [n for n in locate(published.url).objects() if n.startswith("X/c/")]
    got = requests.matching("^GET.*/X/c/")
    assert len(chunks) <= len(got) <= 2 * len(chunks)
    assert not requests.matching("^HEAD.*/X/c/")
    assert len(requests.matching("^GET")) <= len(got) + 60
    assert tables(files(tmp_path)) == tables(files(published.local.path))


def test_default_output_is_beside_the_store(published, requests):
    found = rank_sum(published.url, quiet=True)
    assert str(found.path) == "s3://bucket/example.labels/labels"
    assert not list(scratch_root().glob("example.labels-*")), "scratch of what is published"
    requests.all.clear()
    rank_sum(published.url, quiet=True)
    assert not requests.matching("^PUT|/X/c/")


def test_workers_read_with_credentials_of_their_environment(published, requests, tmp_path):
    from distributed import Client, LocalCluster

    with (
        # forked ones would have the environment of before the test
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        rank_sum(published.url, out=tmp_path, replicates=REPLICATES, client=client, quiet=True)
    assert requests.matching("^GET.*/X/c/")
    assert tables(files(tmp_path)) == tables(files(published.local.path))


def test_sharded_store(example, server, tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MAX_FILES", 1)
    ps.io.ingest(example.source, tmp_path / "sharded.zarr", quiet=True)
    url = upload(tmp_path / "sharded.zarr", "s3://bucket/sharded.zarr")
    reader = MatrixReader(url, gene_start=0, gene_stop=512)
    here = MatrixReader(example.screen.path, gene_start=0, gene_stop=512)
    assert np.array_equal(reader.read(100, 2900), here.read(100, 2900))


def test_another_filesystem_of_fsspec(published, tmp_path):
    url = upload(Path(published.screen.path), "memory://bucket/example.zarr")
    out = "memory://bucket/example.labels"
    found = rank_sum(url, out=out, replicates=REPLICATES, quiet=True)
    assert tables(objects(out)) == tables(files(published.local.path))
    assert found.summary().equals(published.local.labels.summary())
    assert not locate("memory://bucket/.example.labels.lock").exists()


def test_command_line_takes_urls(published):
    ran = CliRunner().invoke(main, ["labels", published.url, "--out", "s3://bucket/cli", "--quiet"])
    assert ran.exit_code == 0, ran.output
    assert "s3://bucket/cli/labels" in ran.output
    assert read_labels("s3://bucket/cli").key == published.local.labels.key
    refused = CliRunner().invoke(main, ["ingest", published.url, "s3://bucket/other.zarr"])
    assert refused.exit_code == 1
    assert "a source of ingest has to be a local path" in refused.output


def test_split_and_embedding_files(server, tmp_path):
    split = ps.splits.holdout([f"G{i}" for i in range(12)], seed=1)
    split.write(tmp_path / "split.json")
    (tmp_path / "genes.csv").write_text("gene,a,b\nG1,1,2\nG2,3,4\nG3,5,6\n")
    upload(tmp_path, "s3://bucket/files")
    assert ps.Split.read("s3://bucket/files/split.json") == split
    found = ps.read_embedding("s3://bucket/files/genes.csv")
    assert found.hash == ps.read_embedding(tmp_path / "genes.csv").hash
    (locate("s3://bucket/files") / "genes.csv").write_bytes(b"gene,a,b\nG1,1,2\nG2,3,9\nG3,5,6\n")
    assert ps.read_embedding("s3://bucket/files/genes.csv").hash != found.hash
    with pytest.raises(NotFoundError, match=r"no object s3://bucket/files/none\.csv"):
        ps.read_embedding("s3://bucket/files/none.csv")


# --- publishing -----------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    """Make every put after the n-th fail, as a connection that breaks does."""
    import s3fs

    request = s3fs.S3FileSystem._call_s3
    done: list[str] = []

    def fail_after(n: int) -> None:
        async def some(self, method, *args, **kwargs):
            if method == "put_object" and not kwargs["Key"].endswith(".lock"):
                done.append(kwargs["Key"])
                if len(done) > n:
                    raise ConnectionResetError("the connection broke")
            return await request(self, method, *args, **kwargs)

        monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", some)

    return fail_after


def test_publishing_goes_on_after_a_failure(published, failing, requests, monkeypatch):
    failing(8)
    with pytest.raises(StorageError, match="the connection broke"):
        rank_sum(published.url, out="s3://bucket/broken", replicates=REPLICATES, quiet=True)
    monkeypatch.undo()
    with pytest.raises(NotFoundError, match="no finished label table in s3://bucket/broken"):
        read_labels("s3://bucket/broken")
    there = locate("s3://bucket/broken").objects()
    assert 0 < len(there) <= 8
    assert "labels/manifest.json" not in there and "pseudobulk.zarr/zarr.json" not in there
    assert not lock_of(locate("s3://bucket/broken")).exists()
    requests.all.clear()
    rank_sum(published.url, out="s3://bucket/broken", replicates=REPLICATES, quiet=True)
    assert not requests.matching("^GET.*/X/c/"), "the tables were computed already"
    put = requests.matching("^PUT /bucket/broken/")
    found = objects("s3://bucket/broken")
    assert len(put) == len(found) - len(there)
    assert put[-1] == "PUT /bucket/broken/labels/manifest.json"
    expected = tables(files(published.local.path))
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []


def test_store_that_is_replaced_is_never_a_mixture(
    example, log_example, server, failing, monkeypatch
):
    url = "s3://bucket/replaced.zarr"
    ps.io.ingest(example.source, url, quiet=True)
    before = objects(url)
    with pytest.raises(ExistsError, match="overwrite=True"):
        ps.io.ingest(log_example.source, url, quiet=True)
    assert objects(url) == before
    failing(5)
    with pytest.raises(StorageError):
        ps.io.ingest(log_example.source, url, overwrite=True, quiet=True)
    monkeypatch.undo()
    with pytest.raises(NotFoundError, match="no finished screen store"):
        ps.open_screen(url)
    with pytest.raises(NotFoundError, match="no finished screen store"):
        ps.run_benchmark(url, out="s3://bucket/never", quiet=True)
    ps.io.ingest(log_example.source, url, overwrite=True, quiet=True)
    assert ps.open_screen(url).fingerprint == log_example.screen.fingerprint
    assert set(objects(url)) == set(
        files(Path(log_example.screen.path))
    )  # fewer chunks than before


def test_markers_go_first_and_come_last(published, requests):
    run = "s3://bucket/markers"
    rank_sum(published.url, out=run, quiet=True)
    requests.all.clear()
    rank_sum(published.url, out=run, fdr=0.05, quiet=True)
    changes = [r for r in requests.all if re.match("(PUT|DELETE) /bucket/markers/", r)]
    markers = [r for r in changes if r.endswith("manifest.json")]
    assert markers == [changes[0].replace("PUT", "DELETE"), changes[-1]]
    of_pseudobulk = requests.matching("^(PUT|DELETE) .*pseudobulk")
    assert {r.rsplit("/", 1)[1] for r in of_pseudobulk} == {"zarr.json"}, "its values are the same"


def test_other_objects_are_left_alone(published):
    where = locate("s3://bucket/shared")
    (where / "notes.txt").write_bytes(b"mine")
    (where / "labels/data/context=7/part-00000.parquet").write_bytes(b"of an older table")
    rank_sum(published.url, out=str(where), quiet=True)
    assert (where / "notes.txt").read_bytes() == b"mine"
    assert "labels/data/context=7/part-00000.parquet" not in where.objects()
    with pytest.raises(ExistsError, match="no part of a store, such as"):
        ps.io.ingest(published.screen.path, str(where), overwrite=True, quiet=True)
    with pytest.raises(ArgumentError, match="whole bucket"):
        rank_sum(published.url, out="s3://bucket", quiet=True)


def test_store_that_is_removed_while_it_is_read(example, server):
    url = upload(Path(example.screen.path), "s3://bucket/removed.zarr")
    reader = MatrixReader(url, gene_start=0, gene_stop=512)
    where = locate(url)
    where.fs.rm_file((where / "X/c/1/0").key)
    with pytest.raises(FileNotFoundError):
        (where / "X/c/1/0").read_bytes()
    with pytest.raises(CorruptFileError, match="X/c/1/0: this chunk of the matrix is missing"):
        reader.read(2048, 3000)
    where.fs.rm_file((where / "zarr.json").key)
    with pytest.raises(InputError, match="removed or is being replaced while it is read"):
        MatrixReader(url, gene_start=0, gene_stop=512).read(2048, 3000)


def test_damaged_chunk_is_named(example, server):
    url = upload(Path(example.screen.path), "s3://bucket/damaged.zarr")
    (locate(url) / "X/c/1/0").write_bytes(b"no chunk at all")
    with pytest.raises(CorruptFileError, match=r"s3://bucket/damaged\.zarr/X/c/1/0"):
        MatrixReader(url, gene_start=0, gene_stop=512).read(0, 3000)


# --- two runs at once -----------------------------------------------------------------------------


def test_second_run_is_refused(published, requests):
    with locked_remote(locate("s3://bucket/held")):
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(LockedError, match=f"another run works in s3://bucket/held: {holder}"):
            rank_sum(published.url, out="s3://bucket/held", quiet=True)
    assert not requests.matching("PUT /bucket/held/")
    rank_sum(published.url, out="s3://bucket/held", quiet=True)


def test_lock_of_a_dead_process_is_taken_over(server, capsys):
    output = locate("s3://bucket/dead")
    died = {**this_process(), "born": "never"}
    lock_of(output).write_bytes(json.dumps(died).encode())
    with locked_remote(output):
        assert json.loads(lock_of(output).read_text())["token"] != died["token"]
    assert not lock_of(output).exists()
    assert f"from a run that died: process {died['pid']}" in capsys.readouterr().err


def test_lock_of_another_machine_is_watched(server, monkeypatch):
    monkeypatch.setattr(remote_lock, "BEAT", 0.1)
    monkeypatch.setattr(remote_lock, "PATIENCE", 1.0)
    other = RemoteLock(locate("s3://bucket/watched"), {**this_process(), "machine": "elsewhere"})
    other.acquire(quiet=True)
    with heartbeat(other.renew, 0.1), pytest.raises(LockedError, match="another run works in"):
        RemoteLock(locate("s3://bucket/watched"), this_process()).acquire(quiet=True)
    mine = RemoteLock(locate("s3://bucket/watched"), this_process())
    mine.acquire(quiet=True)  # it beats no more
    with pytest.raises(LockedError, match="taken over by another run"):
        other.check()
    other.release()
    mine.check()  # what is not its own it does not remove


def test_of_two_that_take_over_one_gets_it(server):
    output = locate("s3://bucket/race")
    lock_of(output).write_bytes(json.dumps({**this_process(), "born": "never"}).encode())
    got, refused = [], []
    start = threading.Barrier(4)

    def take() -> None:
        start.wait()
        try:
            lock = RemoteLock(output, this_process())
            lock.acquire(quiet=True)
            got.append(lock)
        except LockedError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 3)


# --- errors and credentials -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["s3://me:topsecret@bucket/a.zarr", "s3://topsecret@bucket/a", "s3://b/a?secret=topsecret"],
)
def test_credentials_in_a_url_are_refused(url, tmp_path):
    calls = [
        lambda: ps.open_screen(url),
        lambda: ps.read_result(url),
        lambda: ps.io.ingest(tmp_path, url),
        lambda: ps.run_benchmark(url),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match="credentials") as caught:
            call()
        assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "error", "told"),
    [
        ("s3://bucket/none.zarr", NotFoundError, "no screen store at s3://bucket/none.zarr"),
        ("s3://nobucket/a.zarr", NotFoundError, "there is no bucket 'nobucket'"),
        ("s3://bucket/example.zarr/zarr.json", InputError, "is an object, not a screen store"),
        ("ftps://bucket/a.zarr", ArgumentError, "ftps:// is not known"),
        ("s3://bucket/*.zarr", ArgumentError, "names no place"),
        (Path("s3://bucket/a.zarr"), ArgumentError, "pass the URL as a string"),
    ],
)
def test_what_is_not_there(published, url, error, told):
    with pytest.raises(error, match=re.escape(told)):
        ps.open_screen(url)


def test_nothing_finished(server):
    with pytest.raises(NotFoundError, match="no finished benchmark in s3://bucket/none"):
        ps.read_result("s3://bucket/none")
    with pytest.raises(NotFoundError, match="no pseudobulk in s3://bucket/none"):
        read_pseudobulk("s3://bucket/none")
    with pytest.raises(NotFoundError, match=r"no store or file s3://bucket/none\.zarr"):
        ps.run_benchmark("s3://bucket/none.zarr")


def test_package_is_missing(server, monkeypatch):
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    object_storage._filesystem.cache_clear()
    with pytest.raises(StorageError, match=re.escape("pip install 'pertscale[s3]'")):
        ps.open_screen("s3://bucket/a.zarr")


def test_no_credentials(server, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StorageError, match="no credentials found; set AWS_ACCESS_KEY_ID"):
        ps.open_screen("s3://bucket/example.zarr")


def test_storage_that_is_not_there(server, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    started = time.monotonic()
    with pytest.raises(StorageError, match="can't be reached"):
        ps.open_screen("s3://bucket/example.zarr")
    assert time.monotonic() - started < 30


def test_access_is_denied(server, monkeypatch):
    class Denied(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_GET

        def log_message(self, *args) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denied) as denying:
        threading.Thread(target=denying.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{denying.server_port}")
        with pytest.raises(StorageError, match=r"s3://bucket/example\.zarr.*access denied"):
            ps.open_screen("s3://bucket/example.zarr")
        denying.shutdown()


def test_places():
    there = locate("S3://bucket/runs/k562.zarr/")
    assert there == Remote("s3", "bucket/runs/k562.zarr")
    assert str(there) == "s3://bucket/runs/k562.zarr"
    assert str(there.with_suffix(".labels") / "a" / "b") == "s3://bucket/runs/k562.labels/a/b"
    assert (there.name, there.stem) == ("k562.zarr", "k562")
    assert locate("a/b.zarr") == Path("a/b.zarr")
    assert locate("file:///a/b.zarr") == Path("/a/b.zarr")
    assert locate(Path("a")) == Path("a")
