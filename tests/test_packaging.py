"""What is released is what lies here. `scripts/check_wheel.sh` installs it alone, with each extra, and uses it."""

import email
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import fields

import pytest
import yaml

from neuroprompt.images import read_urls
from neuroprompt.server.settings import ServeSettings
from tests.rehearsal.environment import ROOT, build_wheel


def test_the_wheel_is_the_package_and_nothing_else(tmp_path):
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
        metadata = email.message_from_bytes(file.read(f"{wheel.name.rpartition('-py3')[0]}.dist-info/METADATA"))
    files = (path for path in (ROOT / "neuroprompt").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert sorted(names) == sorted(path.relative_to(ROOT).as_posix() for path in files)
    assert "neuroprompt/assets/NOTICE.md" in metadata.get_all("License-File")
    assert wheel.stat().st_size < 65e6


def test_the_site_has_every_document_and_no_dead_link(tmp_path):
    pytest.importorskip("mkdocs")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in tmp_path.rglob("*.html")}
    assert pages >= {f"docs/{path.stem}/index.html" for path in ROOT.glob("docs/*.md")} | {"index.html"}
    elsewhere = re.compile(r"""<(?:script|link|img|iframe)[^>]*\s(?:src|href)=["']?(?:https?:)?//""")
    assert not [page for page in pages if elsewhere.search((tmp_path / "site" / page).read_text("utf-8"))]


def test_what_containers_are_given_are_settings():
    """A variable with a typo would be ignored."""
    known = {f"NEUROPROMPT_{f.name.upper()}" for f in fields(ServeSettings)} | {"NEUROPROMPT_GENERATOR_API_KEY"}
    for file in ("Dockerfile", "space/Dockerfile", "compose.yaml"):
        given = set(re.findall(r"^ *(NEUROPROMPT_\w+)[=:]", (ROOT / file).read_text("utf-8"), re.MULTILINE))
        assert given and given <= known, file


def test_the_compose_file_has_a_server_that_draws_with_its_workers():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    server, workers = services.pop("server"), services
    urls = read_urls(server["environment"]["NEUROPROMPT_GENERATOR"])
    assert urls == tuple(f"http://{name}:8765" for name in workers) and len(workers) == 2
    assert [name for name, service in services.items() if "ports" in service] == []
    for service in (server, *workers.values()):
        home = [volume.partition(":")[2] for volume in service["volumes"]]
        assert service["read_only"] and home == ["/var/lib/neuroprompt"]


def test_the_spaces_card_names_the_port_that_its_server_listens_at():
    card = yaml.safe_load((ROOT / "space/README.md").read_text("utf-8").split("---\n")[1])
    assert (card["sdk"], len(card["short_description"]) <= 60) == ("docker", True)
    assert f"NEUROPROMPT_PORT={card['app_port']} " in (ROOT / "space/Dockerfile").read_text("utf-8")
