"""What a zygote finds in the handlers' sources (crates/runtime/src/scan.py), by itself."""

import json
import subprocess
from pathlib import Path

import pytest
from zygotes import APP, Image, image, installed, names

__all__ = ["image"]


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import one\nfrom two import x", ["one", "two"]),
        ("import one as o, two", ["one", "two"]),
        ("def f():\n    import one\nasync def g():\n    import one\nimport two", ["two"]),
        ("class C:\n    import one\n    def f(self):\n        import two", ["one"]),
        ("with open('/dev/null'):\n    import one", ["one"]),
        ("if True:\n    import one\nelif 1:\n    import two\nelse:\n    import three",
         ["one", "two", "three"]),
        ("try:\n    import one\nexcept ImportError:\n    import two\nelse:\n    import three",
         ["one", "three"]),
        ("try:\n    import one\nfinally:\n    import two", ["one", "two"]),
        ("try:\n    import one\nexcept* OSError:\n    import two", ["one"]),
        ("if TYPE_CHECKING:\n    import one\nelse:\n    import two", ["two"]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import one", []),
        ("if not TYPE_CHECKING:\n    import one\nelse:\n    import two", ["one"]),
        ("if TYPE_CHECKING and x:\n    import one", []),
        ("if __name__ == '__main__':\n    import one\nelse:\n    import two", ["two"]),
        ("if '__main__' == __name__:\n    import one", []),
        ("import missing\nimport missing.too\nimport one", ["one"]),
        ("import one, one\nfrom one import x", ["one"]),
        ("import json, sys, one", ["one"]),
        ("from . import one\nfrom .. import two\nfrom .two import x", []),
    ],
)  # fmt: skip
def test_imports_that_run_with_the_module_are_in_the_image(
    image: Image, source: str, expected: list[str]
) -> None:
    told = image({**installed("one", "two", "three"), "app/app.py": source}, APP)
    assert names(told) == expected
    assert "app" not in told["loaded"]


def test_the_users_modules_are_looked_through_and_not_imported(image: Image) -> None:
    told = image(
        {
            **installed("one", "two", "three", "four", "five", "six"),
            "app/app.py": "import one\nimport pkg.deep.leaf\nfrom pkg import side\nimport six",
            "app/pkg/__init__.py": "import two",
            "app/pkg/deep/__init__.py": "from . import other",
            "app/pkg/deep/leaf.py": "from .. import side\nfrom ...pkg import nothing",
            "app/pkg/deep/other.py": "import three\nimport app",
            "app/pkg/side.py": "from .deep import leaf\nimport four",
            "app/pkg/unused.py": "import five",
        },
        APP,
    )
    assert names(told) == ["one", "two", "three", "four", "six"]
    assert not [name for name in told["loaded"] if name.split(".")[0] in ("app", "pkg")]


def test_a_file_is_a_target_of_its_own(image: Image, tmp_path: Path) -> None:
    files = {**installed("one", "two"), "app/odd name.py": "import one, helper"}
    file = str(tmp_path / "app/odd name.py")
    told = image({**files, "app/helper.py": "import two"}, ("odd name", file, "f"))
    assert names(told) == ["one", "two"]


def test_each_part_of_a_namespace_package_is_its_owners(image: Image) -> None:
    told = image(
        {
            **installed("one", "ns.theirs", "ns.inner.theirs"),
            "app/ns/mine.py": "import one",
            "app/app.py": "from ns import mine, theirs\nimport ns.inner.theirs\nimport ns.mine",
        },
        APP,
        then="result = 'ns.mine' in sys.modules",
    )
    assert sorted(names(told)) == ["ns.inner.theirs", "ns.theirs", "one"]
    assert told["result"] is False


def test_a_target_in_a_namespace_package_does_not_claim_its_neighbours(image: Image) -> None:
    files = {**installed("ns.theirs"), "app/ns/mine/__init__.py": "from ns import theirs"}
    told = image({**files, "app/ns/mine/h.py": ""}, ("ns.mine.h", None, None))
    assert names(told) == ["ns.theirs"]


def test_a_target_in_an_installed_package_is_not_imported(image: Image) -> None:
    told = image(
        {
            **installed("one", "two"),
            "site-packages/product/__init__.py": "import one",
            "site-packages/product/web/handlers.py": "from ..core import x\nfrom product import db",
            "site-packages/product/core.py": "import two",
            "site-packages/product/db.py": "",
        },
        ("product.web.handlers", None, None),
    )
    assert names(told) == ["one", "two"]
    assert not [name for name in told["loaded"] if name.startswith("product")]


def test_what_lies_beside_a_target_is_the_users_wherever_that_is(
    image: Image, tmp_path: Path
) -> None:
    files = {**installed("one"), "src/app.py": "import helper", "src/helper.py": "import one"}
    path = f"{tmp_path / 'src'}:{tmp_path / 'site-packages'}"
    told = image(files, APP, env={"PYTHONPATH": path})
    assert names(told) == ["one"]
    assert "helper" not in told["loaded"]


def test_a_project_that_is_edited_in_place_is_looked_through(image: Image, tmp_path: Path) -> None:
    """Installers put a finder of their own into `sys.meta_path`."""
    finder = f"""
import importlib.util, sys
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        file = {str(tmp_path / "far/product/__init__.py")!r}
        folders = [{str(tmp_path / "far/product")!r}]
        if name == "product":
            return importlib.util.spec_from_file_location(
                name, file, submodule_search_locations=folders)
sys.meta_path.append(Finder)
"""
    told = image(
        {
            **installed("one", "two"),
            "site-packages/sitecustomize.py": finder,
            "far/product/__init__.py": "import one",
            "far/product/web.py": "import two, product.other",
            "far/product/other.py": "",
        },
        ("product.web", None, None),
    )
    assert names(told) == ["one", "two"]
    assert not [name for name in told["loaded"] if name.startswith("product")]


def test_what_is_installed_is_imported_though_it_is_searched_as_the_users(
    image: Image, tmp_path: Path, project_python: Path
) -> None:
    """A program gives its whole `sys.path`."""
    code = "import sys, json; print(json.dumps(sys.path[1:]))"
    done = subprocess.run([project_python, "-c", code], capture_output=True, check=True)
    path = [str(tmp_path / "app"), str(tmp_path / "site-packages"), *json.loads(done.stdout)]
    told = image(
        {**installed("one"), "app/app.py": "import one, xmlrpc.client"},
        APP,
        search_path=path,
    )
    assert "one" in names(told)
    assert "xmlrpc.client" in told["loaded"]


def test_submodules_are_items_by_their_own_names(image: Image) -> None:
    told = image(
        {
            **installed("one", "one.a", "one.b", "lazy", "lazy.part", "all", "all.x", "all.y"),
            "site-packages/lazy/__init__.py": "def __getattr__(name):\n    import lazy.part\n"
            "    return lazy.part\n",
            "site-packages/all/__init__.py": "__all__ = ['x']",
            "app/app.py": "from one import a, missing\nimport one.b\nfrom lazy import part\n"
            "from all import *",
        },
        APP,
    )
    assert names(told) == ["one", "one.a", "one.b", "lazy", "lazy.part", "all", "all.x"]


def test_what_is_left_out_takes_its_submodules_with_it(image: Image) -> None:
    told = image(
        {
            **installed("one", "one.a", "two", "two.b", "two.c"),
            "app/app.py": "from one import a\nimport one.a\nfrom two import b, c",
        },
        APP,
        preload=["one", "two"],
        leave_out=["one", "two.b"],
    )
    assert names(told) == ["two", "two.c"]
    assert not [name for name in told["loaded"] if name.startswith("one")]


@pytest.mark.parametrize("failure", ["raise ValueError", "raise SystemExit(3)", "import missing"])
def test_a_package_that_does_not_import_is_left_to_the_worker(image: Image, failure: str) -> None:
    files = {**installed("two"), "site-packages/one/__init__.py": failure}
    told = image({**files, "app/app.py": "import one\nfrom one import x\nimport two"}, APP)
    assert names(told) == ["two"]


@pytest.mark.parametrize(
    "odd",
    [
        b"import one\nx = '\xff\xfe'",
        b"import one\ndef",
        b"import one\0",
        b"# coding: nonsense\nimport one",
        b"x = " + b"(" * 5000,
        b"x = " + b"-" * 50_000 + b"1",
        b"import one\n" + b"#" * (2 << 20),
    ],
    ids=["bytes", "syntax", "null", "coding", "brackets", "deep", "huge"],
)
def test_sources_that_cannot_be_read_are_left_to_the_worker(image: Image, odd: bytes) -> None:
    files = {**installed("one", "two"), "app/app.py": "import odd, two"}
    assert names(image({**files, "app/odd.py": odd}, APP)) == ["two"]


def test_a_source_in_another_coding_and_one_that_warns_are_looked_through(image: Image) -> None:
    files = {**installed("one", "two"), "app/app.py": "import odd\nx = '\\d'\nimport two"}
    odd = "# coding: latin-1\nx = 'é'\nimport one".encode("latin-1")
    assert names(image({**files, "app/odd.py": odd}, APP)) == ["one", "two"]


def test_the_search_ends_after_so_many_sources(image: Image) -> None:
    files = installed("one", "two")
    files |= {f"app/m{n}.py": f"import m{n + 1}" for n in range(2100)}
    files |= {"app/m1990.py": "import one, m1991", "app/m2050.py": "import two, m2051"}
    told = image(files, ("m0", None, None))
    assert names(told) == ["one"]
