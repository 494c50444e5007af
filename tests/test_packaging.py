"""What is released is what lies here. `scripts/check_wheel.sh` installs it alone, with each extra, and uses it."""

import email
import zipfile

from tests.rehearsal.environment import ROOT, build_wheel


def test_the_wheel_is_the_package_and_nothing_else(tmp_path):
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
        metadata = email.message_from_bytes(file.read(f"{wheel.name.rpartition('-py3')[0]}.dist-info/METADATA"))
    files = (path for path in (ROOT / "neuroprompt").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert sorted(names) == sorted(path.relative_to(ROOT).as_posix() for path in files)
    assert "neuroprompt/assets/NOTICE.md" in metadata.get_all("License-File")
    assert wheel.stat().st_size < 40e6
