"""The IPFS store against js-ipfs, an implementation that shares nothing with ours."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inframind.storage.ipfs import IpfsStore
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits

from .archives import package

_PACKAGES = ("ipfs-core@0.18.1", "ipfs-http-server@0.15.1")
_DAEMON = """
Promise.withResolvers ??= function () {
  const parts = {}
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }))
  return parts
}
const { create } = await import('ipfs-core')
const { HttpApi } = await import('ipfs-http-server')
const nowhere = '/ip4/127.0.0.1/tcp/0'
const ipfs = await create({
  repo: './repo', offline: true, start: false, init: { emptyRepo: true, algorithm: 'Ed25519' },
  config: { Addresses: { Swarm: [], API: nowhere, Gateway: nowhere }, Bootstrap: [] }
})
const api = new HttpApi(ipfs)
await api.start()
console.log('API ' + String(api._apiServers[0].info.ma))
"""
_FILES = {
    "model.yaml": b"name: x",
    "weights/chunk": b"c" * (1024 * 1024),
    "weights/many": bytes(range(251)) * 50_000,
    "weights/empty": b"",
    ".hidden": b"h",
    'odd "names" ü+&;/a b': b"odd",
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm and node are needed for js-ipfs")
    home = tmp_path_factory.mktemp("js-ipfs")
    install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *_PACKAGES]
    subprocess.run(install, cwd=home, check=True, timeout=300, stdout=subprocess.DEVNULL)
    (home / "daemon.mjs").write_text(_DAEMON)
    with subprocess.Popen([node, "daemon.mjs"], cwd=home, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        lines = (line.split() for line in run.stdout)
        yield next(words[1] for words in lines if words[:1] == ["API"])
        run.terminate()


@pytest.mark.drill
def test_js_ipfs_computes_the_cids_that_we_compute(
    api: str, store: LocalStore, tmp_path: Path
) -> None:
    ipfs = IpfsStore(api, root=tmp_path, read_timeout_seconds=5)
    stored = ipfs.add_package(io.BytesIO(package(_FILES)), limits=PackageLimits())
    assert stored == store.add_package(io.BytesIO(package(_FILES)), limits=PackageLimits())
    assert ipfs.exists(stored.cid)
    assert not ipfs.exists(stored.files[0].cid)
    assert ipfs.files(stored.cid) == stored.files
    exported = b"".join(ipfs.export_tar(stored.cid))
    assert exported == b"".join(store.export_tar(stored.cid))
    ipfs.delete(stored.cid)
    assert not ipfs.exists(stored.cid)
