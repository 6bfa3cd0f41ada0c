"""The page of a model, uploaded to a static Space of the Hub that the tests bring along."""

import pytest

from simple_llm.errors import HubError
from simple_llm.sharing.hub import push_space
from tests.browser import needs_npm
from tests.hub_server import TOKEN


def test_a_page_is_put_into_a_static_space_and_once_only(hub, tmp_path):
    page = tmp_path / "page"
    (page / "fonts").mkdir(parents=True)
    content = {"model.onnx": b"weights", "index.html": b"<p>", "README.md": b"---\nsdk: static\n---\n", "fonts/a": b"A"}
    for name, one in content.items():
        (page / name).write_bytes(one)
    (page / ".env").write_text("not for others")
    assert push_space(page, [*content], "me/page", private=False).startswith(f"{hub.url}/me/page/commit/")
    assert hub.files("me/page") == content
    [asked] = hub.created
    assert (asked["type"], asked["sdk"], asked["visibility"]) == ("space", "static", "public")
    assert push_space(page, [*content], "me/page", private=False) is None
    (page / "index.html").write_bytes(b"<p>new")
    assert push_space(page, [*content], "me/page", private=False)
    assert hub.files("me/page") == content | {"index.html": b"<p>new"}


@needs_npm
def test_the_page_of_a_model_is_pushed_by_the_command_that_makes_it(run_folder, call_script, hub):
    push = ("web/build.py", "--model", "model", "--output", "page", "--push", "me/page")
    done = call_script(*push, cwd=run_folder)
    assert done.exit_code == 0, done.stderr
    assert f"pushed to {hub.url}/me/page/commit/" in done.stderr
    page = run_folder / "page"
    written = {str(path.relative_to(page)) for path in page.rglob("*") if path.is_file()}
    assert set(hub.files("me/page")) == written
    assert "nothing to push: me/page holds all of it already" in call_script(*push, cwd=run_folder).stderr
    assert not [path for path in written if TOKEN.encode() in (page / path).read_bytes()]


def test_a_page_without_a_space_to_go_to_is_refused_before_it_is_made(run_folder, call_script, hub):
    done = call_script("web/build.py", "--model", "model", "--output", "page", "--push", cwd=run_folder)
    assert done.exit_code == 2
    assert "--push: name the Space" in done.stderr
    assert not (run_folder / "page").exists()


@pytest.mark.parametrize("name", ["a/b/c", "me/a..b", "/"])
def test_a_name_that_no_space_can_have_is_refused_where_it_was_written(name, run_folder, call_script, hub):
    done = call_script("web/build.py", "--model", "model", "--output", "page", f"--push={name}", cwd=run_folder)
    assert done.exit_code == 2
    assert done.stderr == f"--push: '{name}' cannot be the name of a Space; write it as me/adder-page\n"
    assert not (run_folder / "page").exists()


def test_a_space_that_is_refused_is_named(hub, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"weights")
    hub.refuse("POST /api/repos/create", 403)
    with pytest.raises(HubError, match="the upload to me/page failed"):
        push_space(tmp_path, ["model.onnx"], "me/page", private=True)
