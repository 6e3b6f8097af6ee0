"""The wallet: made, imported and shown; its file is private, and its key is never seen."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account

from inframind.cli import keystore
from inframind.cli.refusal import Refusal
from tests.inframind.cli.conftest import ADDRESS, KEY, Infra

PASSWORD = "correct horse battery"


@pytest.fixture
def password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    monkeypatch.setenv("INFRA_PASSWORD_FILE", str(path))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "infra" / "wallet.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_wallet_is_encrypted_private_and_opens_again(
    infra: Infra, password_file: Path, file: Path
) -> None:
    made = infra("wallet", "create", "--json")
    assert made.status == 0, made.stderr
    document = json.loads(made.stdout)
    assert document == {"address": document["address"], "source": str(file)}
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert [path.name for path in file.parent.iterdir()] == ["wallet.json"]
    account = keystore.unlock(no_input=True)
    assert account.address == document["address"]
    assert account.key.hex().removeprefix("0x") not in made.stdout + made.stderr + file.read_text()
    assert infra("wallet", "show").stdout.splitlines() == [
        f"Address  {account.address}",
        f"Key in   {file}",
    ]


def test_a_wallet_is_never_overwritten(infra: Infra, password_file: Path, file: Path) -> None:
    infra("wallet", "create")
    before = file.read_bytes()
    for command in (["create"], ["import"], ["import", "-"]):
        outcome = infra("wallet", *command)
        assert outcome.status == 2
        assert "never overwritten" in outcome.stderr
    assert file.read_bytes() == before


def test_a_wrong_password_is_told_without_a_key(
    infra: Infra, password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_PRIVATE_KEY", KEY)
    assert infra("wallet", "import").status == 0
    monkeypatch.delenv("INFRA_PRIVATE_KEY")
    password_file.write_text("wrong horse battery")
    with pytest.raises(Refusal, match="This is not the password of") as refused:
        keystore.unlock(no_input=True)
    assert refused.value.document["type"] == "/problems/wrong-password"
    assert "wrong horse" not in str(refused.value.document)


def test_a_private_key_is_imported_from_the_environment_a_file_and_stdin(
    infra: Infra,
    password_file: Path,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "key").write_text(KEY.removeprefix("0x") + "\n")
    outcome = infra("wallet", "import", "key", "--json")
    assert json.loads(outcome.stdout)["address"] == ADDRESS
    file.unlink()
    monkeypatch.setenv("INFRA_PRIVATE_KEY", KEY)
    assert json.loads(infra("wallet", "import", "--json").stdout)["address"] == ADDRESS
    monkeypatch.delenv("INFRA_PRIVATE_KEY")
    file.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "inframind.cli", "wallet", "import", "-", "--json"],
        input=KEY, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert json.loads(done.stdout)["address"] == ADDRESS


def test_a_keystore_of_another_program_is_imported_with_its_password(
    infra: Infra, password_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "theirs.json").write_text(
        json.dumps(Account.encrypt(bytes.fromhex(KEY[2:]), PASSWORD, kdf="pbkdf2", iterations=1000))
    )
    assert json.loads(infra("wallet", "import", "theirs.json", "--json").stdout)["address"] == (
        ADDRESS
    )
    assert keystore.unlock(no_input=True).address == ADDRESS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not a key", "not a private key"),
        ("0x" + "0" * 64, "not a private key of this curve"),
        ("0x" + "f" * 64, "not a private key of this curve"),
        ("{", "not a keystore"),
        ('{"version": 3}', "not a keystore"),
        ('{"version": 1}', "not a keystore"),
        ('{"version": 3, "crypto": {"kdf": "none"}}', "not a keystore"),
    ],
)
def test_what_is_no_wallet_is_refused_and_not_shown(
    infra: Infra, password_file: Path, file: Path, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "given").write_text(text)
    outcome = infra("wallet", "import", "given")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert words in outcome.stderr
    assert text not in outcome.stderr or len(text) == 1
    assert not file.exists()


def test_a_key_given_as_an_argument_is_refused_and_not_shown(
    infra: Infra, password_file: Path
) -> None:
    outcome = infra("wallet", "import", KEY)
    assert outcome.status == 2
    assert KEY not in outcome.stderr
    assert "never an argument" in outcome.stderr


def test_the_environments_key_wins_over_the_keystore(
    infra: Infra, password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infra("wallet", "create")
    monkeypatch.setenv("INFRA_PRIVATE_KEY", KEY)
    assert json.loads(infra("wallet", "show", "--json").stdout) == {
        "address": ADDRESS,
        "source": "INFRA_PRIVATE_KEY",
    }
    monkeypatch.setenv("INFRA_PRIVATE_KEY", "0x" + "zz" * 32)
    outcome = infra("wallet", "show")
    assert outcome.status == 2
    assert "zz" not in outcome.stderr


def test_without_a_wallet_the_way_to_one_is_told(infra: Infra) -> None:
    for command in (["wallet", "show"], ["login"]):
        outcome = infra(*command)
        assert outcome.status == 4
        assert "infra wallet create" in outcome.stderr


@pytest.mark.parametrize("secret", ["short", ""])
def test_a_short_password_is_refused(
    infra: Infra, password_file: Path, file: Path, secret: str
) -> None:
    password_file.write_text(secret)
    outcome = infra("wallet", "create")
    assert outcome.status == 2
    assert "at least 8 characters" in outcome.stderr
    assert not file.exists()


def test_no_input_never_asks_for_a_password(infra: Infra) -> None:
    outcome = infra("wallet", "create", "--no-input")
    assert outcome.status == 2
    assert "INFRA_PASSWORD_FILE" in outcome.stderr


def test_a_missing_password_file_is_told(infra: Infra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFRA_PASSWORD_FILE", "nowhere")
    outcome = infra("wallet", "create")
    assert outcome.status == 2
    assert "INFRA_PASSWORD_FILE: nowhere cannot be read" in outcome.stderr


def test_the_config_file_names_another_keystore(
    infra: Infra, password_file: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config" / "infra" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('keystore = "mine.json"')
    made = json.loads(infra("wallet", "create", "--json").stdout)
    assert made["source"] == str(config.parent / "mine.json")
    assert mode(config.parent / "mine.json") == 0o600


def test_a_relative_xdg_folder_is_ignored(
    infra: Infra, password_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    made = json.loads(infra("wallet", "create", "--json").stdout)
    assert made["source"] == str(tmp_path / "home/.local/share/infra/wallet.json")


def test_a_keystore_that_others_can_read_is_told(
    infra: Infra, password_file: Path, file: Path
) -> None:
    infra("wallet", "create")
    file.chmod(0o644)
    outcome = infra("wallet", "show")
    assert outcome.status == 0
    assert f"others can read {file}" in outcome.stderr


@pytest.mark.parametrize(
    ("typed", "status"),
    [((PASSWORD, PASSWORD), 0), ((PASSWORD, "another password"), 2), (("too few",), 2)],
)
def test_a_password_is_asked_twice_and_never_echoed(
    tmp_path: Path, typed: tuple[str, ...], status: int
) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
        os.execv(sys.executable, [sys.executable, "-m", "inframind.cli", "wallet", "create"])
    shown = ""
    for prompt, answer in zip(
        ("Password for the new wallet: ", "Once more: "), typed, strict=False
    ):
        while prompt not in shown:
            shown += os.read(terminal, 1024).decode()
        os.write(terminal, answer.encode() + b"\n")
    while True:
        try:
            piece = os.read(terminal, 1024)
        except OSError:
            break
        if not piece:
            break
        shown += piece.decode()
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
    assert all(answer not in shown for answer in typed)
    assert ("Once more: " in shown) == (len(typed) == 2)
    assert (tmp_path / "data/infra/wallet.json").exists() == (status == 0)
