"""What a call of `segctl.download` brings about: what is fetched, what is left, and room on the disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from planted import PHOTO, ZIP, Install, facts, fetch, is_whole, noise, zipped
from server import Server

import segctl
from segctl.errors import DiskFullError, DownloadError
from segctl.plugin import Archive


def test_an_archive_is_fetched_verified_unpacked_and_removed(server: Server, published: Install, data: Path) -> None:
    archive = facts(server.serve("/toy.zip", ZIP), ZIP)
    published(archive)

    result = fetch(data)

    assert result.complete
    assert is_whole(data)
    (file,) = result.files
    assert (file.file, file.size, file.files, file.verified) == ("toy.zip", len(ZIP), 2, True)
    assert file.checksum == f"sha256 {archive.sha256}"
    assert [each.sent for each in server.asked] == [len(ZIP)]
    assert not (data / ".archives").exists()


def test_what_is_there_is_not_asked_for_again(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    fetch(data)
    server.asked.clear()

    result = fetch(data)

    assert (result.complete, result.files) == (True, ())
    assert server.asked == []


def test_what_was_deleted_is_fetched_again(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP, provides=("toy/photo.jpg",)))
    fetch(data)
    (data / "toy/toy/photo.jpg").unlink()

    assert len(fetch(data).files) == 1
    assert is_whole(data)


def test_data_that_somebody_put_there_are_left_alone(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP), layout=["images", "masks"])
    for folder in ("images", "masks"):
        (data / "toy" / folder).mkdir(parents=True)

    assert fetch(data).complete
    assert server.asked == []
    assert sorted(path.name for path in (data / "toy").iterdir()) == ["images", "masks"]


def test_a_file_without_archive_is_put_in_its_folder(server: Server, published: Install, data: Path) -> None:
    text = b"one\ntwo\n"
    published(facts(server.serve("/list.txt", text), text, unpack=False, folder="lists"))

    assert fetch(data).complete
    assert (data / "toy/lists/list.txt").read_bytes() == text


def test_archives_are_kept_where_that_is_wanted(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    fetch(data, keep_archives=True)
    (kept,) = (data / ".archives").glob("*/toy.zip")
    assert kept.read_bytes() == ZIP
    server.asked.clear()

    (other,) = segctl.download("toy", data_root=data.with_name("other"), files=[data / ".archives"])

    assert other.complete
    assert server.asked == []


def test_several_files_at_a_time(server: Server, published: Install, data: Path) -> None:
    archives = []
    for number in range(3):
        content = zipped({f"toy/{number}.bin": noise(200_000, number)})
        archives.append(facts(server.serve(f"/{number}.zip", content, pace=0.1), content))
    published(*archives)

    assert fetch(data).complete
    assert max(each.at for each in server.asked) < min(each.until for each in server.asked)


def test_one_file_of_two_data_sets_is_fetched_once(
    server: Server, published: Install, data: Path, tmp_path: Path
) -> None:
    archive = facts(server.serve("/toy.zip", ZIP), ZIP)
    published(archive)
    published(archive, name="toy2")

    results = segctl.download(["toy", "toy2"], data_root=data)

    assert [result.complete for result in results] == [True, True]
    assert server.sent("/toy.zip") == len(ZIP)
    assert (data / "toy2/toy/photo.jpg").read_bytes() == PHOTO


def test_two_data_sets_of_one_name_are_told_apart(server: Server, published: Install, data: Path) -> None:
    folder = Path(published(facts(server.serve("/toy.zip", ZIP), ZIP)))
    (first,) = folder.glob("*.dist-info")
    published(Archive(url=f"{server.url}/gone.zip"))
    (second,) = set(folder.glob("*.dist-info")) - {first}
    names = [f"{each.name.partition('-')[0]}:toy" for each in (first, second)]

    with pytest.raises(DownloadError, match=f"Not complete: {names[1]}") as refused:
        segctl.download(names, data_root=data)

    assert [(each.name, each.complete) for each in refused.value.results] == [(names[0], True), (names[1], False)]


def test_what_fails_does_not_keep_the_others_back(server: Server, published: Install, data: Path) -> None:
    published(facts(server.serve("/toy.zip", ZIP), ZIP))
    published(Archive(url=f"{server.url}/gone.zip"), name="lost")

    with pytest.raises(DownloadError, match="Not complete: lost") as refused:
        segctl.download(["lost", "toy"], data_root=data)

    assert [(each.name, each.complete) for each in refused.value.results] == [("lost", False), ("toy", True)]
    assert is_whole(data)


def test_a_missing_checksum_is_said_and_the_own_one_is_told(server: Server, published: Install, data: Path) -> None:
    archive = facts(server.serve("/toy.zip", ZIP), ZIP)
    published(Archive(url=archive.url))
    told: list[str] = []

    (file,) = fetch(data, on_event=lambda event: told.append(event.message)).files

    assert file.checksum == f"sha256 {archive.sha256}"
    assert f"No checksum is published for toy.zip; what was read has sha256 {archive.sha256}." in told


def test_room_is_looked_for_first(server: Server, published: Install, data: Path) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP), size=10**17))

    with pytest.raises(DiskFullError, match="GiB are needed"):
        fetch(data)
    assert server.asked == []


def test_room_for_a_file_of_unpublished_size_is_looked_for_before_its_first_byte(
    server: Server, published: Install, data: Path
) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP, length=10**17)))

    with pytest.raises(DownloadError, match=r"toy.zip needs \d+\.\d GiB more in .* free and 64\.0 MiB are to stay so"):
        fetch(data)
    assert not [path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 1000]


def test_the_disk_is_not_written_full(
    server: Server, published: Install, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(Archive(url=server.serve("/toy.zip", ZIP, length="none")))
    with monkeypatch.context() as there:
        there.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**26))
        with pytest.raises(DownloadError, match=r"64\.0 MiB are free and 64\.0 MiB are to stay so"):
            fetch(data)
    assert fetch(data).complete
