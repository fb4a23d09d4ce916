"""Experiments as code: content that is written in Python, served, mixed with files, and named where it is wrong."""

from __future__ import annotations

import copy
import json
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi import Ninetailed, Settings, authoring, create_app, testing
from ninetailed_wsgi.authoring import audience, entry, experience, flag, merge_tag, metric, trait, viewed
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.content import Catalog, content_source
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.testing import Harness

INTERESTED = audience(viewed("/pricing", at_least=2), id="interested")
OFFER = experience("hero", ["hero-offer"], audience=INTERESTED, id="offer")
MODULE = """
from ninetailed_wsgi.authoring import audience, experience, viewed

interested = audience(viewed("/pricing", at_least=2), id="interested")
content = [experience("hero", ["hero-offer"], audience=interested, id="offer")]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, in which modules are found; what was imported of it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def served(content: object) -> Catalog:
    source = content_source(Settings(content=content))  # type: ignore[arg-type]  # read by the option
    source.load()
    return source.catalog("acme", "main")


def refused(content: object) -> str:
    with pytest.raises(SettingsError) as error:
        served(content)
    return "\n".join(error.value.problems)


def line_of(path: str | Path, text: str) -> str:
    lines = Path(path).read_text().splitlines()
    return f"{path}:{next(number for number, line in enumerate(lines, 1) if text in line)}"


def names(catalog: Catalog) -> tuple[list[str], list[str]]:
    return [one.id for one in catalog.audience_list], [one.id for one in catalog.experience_list]


# What is served


def test_a_list_in_python_is_served() -> None:
    assert names(served([OFFER])) == (["interested"], ["offer"])


def test_a_mount_serves_a_list(tmp_path: Path) -> None:
    def site(environ: Any, start_response: Any) -> list[bytes]:
        visitor = environ["ninetailed.visitor"]
        visitor.page()
        shown = visitor.variant("hero")
        start_response("200 OK", [])
        return [shown.encode()]

    mounted = Ninetailed(
        site, content=[experience("hero", ["hero-b"])], data_dir=tmp_path / "data", time_budget_ms=30_000
    )
    environ = {"PATH_INFO": "/", "REQUEST_METHOD": "GET", "HTTP_HOST": "shop.example", "wsgi.url_scheme": "https"}
    assert mounted(environ, lambda *_: None) == [b"hero-b"]
    mounted.close()


def test_an_app_serves_a_list(tmp_path: Path) -> None:
    client = testing.Client(
        create_app(content=[OFFER, flag("theme", control="light", variants=["dark"])], data_dir=tmp_path / "data"),
        "/v2/organizations/default/environments/main",
    )
    event = {
        "type": "page",
        "channel": "web",
        "messageId": "m",
        "context": {"library": {"name": "t", "version": "4.0.0"}},
        "properties": {"path": "/", "query": {}, "referrer": "", "search": "", "url": "https://shop.example/"},
    }
    answer = client.post("/profiles", {"events": [event]})
    assert [change["key"] for change in answer.document["data"]["changes"]] == ["theme"]


def test_a_module_is_named(folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "experiments.py").write_text(MODULE)
    assert names(served("shop.experiments:content")) == (["interested"], ["offer"])


def test_the_example_of_the_documentation_is_served_and_its_mistakes_are_worded_as_there(folder: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "content.md").read_text()
    example = page.split("<!-- tests/test_authoring.py -->\n```python\n")[1].split("```")[0]
    (folder / "documented.py").write_text(example)
    assert names(served("documented:content")) == (["interested"], ["pricing-offer", "dark-theme"])
    (folder / "mistaken.py").write_text(example.replace('id="pricing-offer"', 'id="pricing-offer", traffic=2'))
    problem = refused("mistaken:content")
    assert problem.replace(str(folder / "mistaken.py"), "/srv/shop/experiments.py") in page


def test_a_module_is_imported_once(folder: Path) -> None:
    (folder / "counted_content.py").write_text(MODULE + "with open('imports', 'a') as file: file.write('x')\n")
    served("counted_content:content")
    served("counted_content:content")
    assert (folder / "imports").read_text() == "x"


def test_a_command_finds_modules_in_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "working_folder_content.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(folder)])
    main(["check", "--content", "working_folder_content:content"])
    assert "experience offer: offer, personalization for audience interested" in capsys.readouterr().out


def test_a_document_in_python_is_served() -> None:
    assert names(served({"audiences": [INTERESTED], "experiences": [OFFER]})) == (["interested"], ["offer"])


def test_merge_tags_metrics_and_the_order_of_an_entry_are_served() -> None:
    purchase = metric("purchase")
    first, second = experience("hero", ["a"], id="one", metric=purchase), experience("hero", ["b"], id="two")
    catalog = served(
        [purchase, first, second, entry("hero", [second, "one"]), merge_tag("traits.name", fallback="you")]
    )
    assert catalog.entry_experiences == {"hero": ("two", "one")}
    assert catalog.primary_metrics == {"one": "metric-purchase"}
    assert catalog.merge_tags["traits.name"].fallback == "you"
    assert catalog.problems == ()


# Mixed


def test_python_is_mixed_with_files_and_may_name_what_is_in_them(folder: Path) -> None:
    (folder / "mixed_content.py").write_text(MODULE)
    Path("audiences.json").write_text(json.dumps({"audiences": [audience(trait("plan"), id="planned")]}))
    mine = experience("banner", ["banner-b"], audience="planned")
    for content in (
        "mixed_content:content; audiences.json",
        [mine, "mixed_content:content", Path("audiences.json")],
    ):
        catalog = served(content)
        assert {"planned", "interested"} == {one.id for one in catalog.audience_list}
        assert catalog.problems == ()


def test_what_is_left_out_of_one_of_several_origins_is_logged_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path("audiences.json").write_text(json.dumps({"audiences": [{"id": "odd", "name": "Odd", "rules": {"any": 5}}]}))
    served([experience("banner", ["banner-b"]), Path("audiences.json")])
    assert sum("entry odd" in record.getMessage() for record in caplog.records) == 1


def test_a_changed_file_beside_python_is_served(folder: Path) -> None:
    file = folder / "more.json"
    file.write_text(json.dumps({"audiences": [audience(trait("plan"), id="planned")]}))
    source = content_source(Settings(content=[OFFER, file]))  # type: ignore[arg-type]
    source.load()
    file.write_text(json.dumps({"audiences": [audience(trait("plan"), id="other-name")]}))
    source.look()
    assert names(source.catalog("acme", "main")) == (["interested", "other-name"], ["offer"])
    file.write_text(json.dumps({"audiences": [audience(trait("other"), id="interested")]}))
    source.look()
    assert names(source.catalog("acme", "main")) == (["interested"], ["offer"])
    assert (source.state().errors, source.state().left_out) == (0, 1)
    assert "interested: exists twice" in str(source.problems()[0])


def test_files_of_an_environment_are_joined_by_python_for_all(folder: Path) -> None:
    (folder / "content" / "acme").mkdir(parents=True)
    document = {"audiences": [audience(trait("plan"), id="planned")]}
    (folder / "content" / "acme" / "main.json").write_text(json.dumps(document))
    source = content_source(Settings(content=[OFFER, folder / "content"]))  # type: ignore[arg-type]
    source.load()
    assert names(source.catalog("acme", "main"))[0] == ["interested", "planned"]
    assert names(source.catalog("acme", "other"))[0] == ["interested"]


# Mistakes


def test_a_mistake_is_named_with_file_and_line() -> None:
    content = [experience("hero", ["hero-b"], traffic=2, id="too-much")]
    where = line_of(__file__, "traffic=2, id")
    assert refused(content).startswith(f"content: {where}: entry too-much: config.traffic: found 2")


def test_a_component_of_an_unknown_type_is_refused_as_nothing_is_left_out_of_code() -> None:
    config = {"traffic": 1, "distribution": [0.5, 0.5], "components": [{"type": "Redirect", "to": "/x"}]}
    reason = refused([{"id": "odd", "name": "Odd", "type": "nt_experiment", "config": config}])
    assert reason.endswith("FragmentReplacement, ExperienceFragmentReplacement")


def test_a_mount_names_mistakes_of_a_list_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"test_authoring\.py:\d+: entry .*config\.traffic"):
        Ninetailed(None, content=[experience("hero", ["hero-b"], traffic=2)], data_dir=tmp_path)


def test_a_duplicate_id_names_both_places() -> None:
    first = experience("hero", ["hero-b"], id="same")
    second = experience("banner", ["banner-b"], id="same")
    problem = refused([first, second])
    assert line_of(__file__, 'second = experience("banner"') in problem
    assert line_of(__file__, 'first = experience("hero", ["hero-b"], id="same")') in problem


def test_a_duplicate_id_of_code_and_a_file_names_both_places(folder: Path) -> None:
    (folder / "more.json").write_text(json.dumps([experience("banner", ["banner-b"], id="offer")]))
    source = content_source(Settings(content=[OFFER, "more.json"]))  # type: ignore[arg-type]
    source.load()
    (problem,) = source.problems()
    assert str(problem) == f"more.json: entry offer: exists twice with different content, also in {OFFER.place}"


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("x = = 2\n", "content", "{file}:1: SyntaxError: invalid syntax"),
        ("\nraise RuntimeError('no database')\n", "content", "{file}:2: RuntimeError: no database"),
        ("import nothing_of_this_name\n", "content", "{file}:1: ModuleNotFoundError: No module named 'nothing_of_this"),
        ("import sys\nsys.exit(3)\n", "content", "{file}:2: SystemExit: 3"),
        ("from ninetailed_wsgi.authoring import audience\n\naudience()\n", "content", "{file}:3: ValueError: found no"),
        ("contents = []\n", "content", "{file}: has no content, expected a list of audiences and experiences"),
        ("contents = []\n", "content", "; did you mean contents?"),
        ("def content(): ...\n", "content", "{file}: content is the function content, expected a list"),
        ("content = 'text'\n", "content", "{file}: content is 'text', expected a list"),
        ("content = ['text']\n", "content", "broken:content, item 1: is 'text', expected what a builder"),
        ("content = [{'id': 'x', 'config': {1, 2}}]\n", "content", "item 1: config: found a set, expected JSON"),
        ("content = [{'id': 'x', 'config': {1: 2}}]\n", "content", "item 1: config: found the name 1, expected a text"),
        ("content = [{'id': 'x', 'name': chr(0xd800)}]\n", "content", "item 1: name: found '\\ud800', expected JSON"),
        ("content = [{'id': 'x', 'config': float('nan')}]\n", "content", "item 1: config: found nan, expected JSON"),
        ("content = [{'id': 'x', 'config': 2**64}]\n", "content", "item 1: config: found 18446744073709551616"),
        ("a = {'id': 'x'}\na['config'] = a\ncontent = [a]\n", "content", "is nested deeper than 250 levels"),
        ("content = [{}]\n", "content", "item 1: is not recognized: found an object"),
        ("content = [{'sys': {'id': 'x'}, 'fields': {'a': {1}}}]\n", "content", "item 1: fields.a: found a set"),
        ("a = {'sys': {'id': 'x'}}\na['fields'] = {'a': a}\ncontent = [a]\n", "content", "is nested deeper than 250"),
        ("a = []\na.append(a)\ncontent = [{'sys': {}, 'fields': {'x': a}}]\n", "content", "is nested deeper than 250"),
        ("content = [{'sys': 5}]\n", "content", "content"),
    ],
)
def test_what_is_wrong_with_a_module_is_named(folder: Path, module: str, name: str, message: str) -> None:
    file = folder / "broken.py"
    file.write_text(module)
    assert message.format(file=file) in refused(f"broken:{name}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[audience('/pricing')]", "found '/pricing', expected a rule, such as viewed('/pricing')"),
        ("[audience([viewed('/a')])]", "found a list, expected rules one by one: put a * before the list"),
        ("[audience(audience(viewed('/a')))]", "found an audience, expected a rule"),
        ("[audience(with_query('a'))]", "found a condition, expected a rule that has it"),
        ("[audience(any_of(viewed))]", "found <function viewed"),
        ("[audience(viewed('/a') | viewed('/b'))]", "rules cannot be joined with |, write any_of(...) instead"),
        ("[audience(viewed('/a') & viewed('/b'))]", "rules cannot be joined with &, write all_of(...) instead"),
        ("[audience(viewed(5))]", "found 5 for the path, expected a text"),
        ("[audience(viewed(with_query('a')))]", "found a condition for the path, expected a text"),
        ("[audience(performed(None))]", "found None for the event, expected a text"),
        ("[audience(viewed('/a', at_least=-1))]", "found the count -1, expected a number of events, 0 or more"),
        ("[audience(viewed('/a', exactly='2'))]", "found the count '2', expected a number of events"),
        ("[audience(viewed('/a', at_most=True))]", "found the count True, expected a number of events"),
        ("[experience('a', ['b'], audience=viewed('/a'))]", "audience: found a rule, expected an audience: write"),
        ("[experience('a', ['b'], audience=lambda visitor: True)]", "audience: found a function, expected what"),
        ("[experience('a', ['b'], distribution=[0.8, 0.8])]", "distribution: found shares that add up to 1.6, exp"),
        ("[experience('a', ['b'], distribution=[50, 50])]", "add up to 100, expected 1; write 0.5 for 50 %"),
        ("[experience('a', ['b'], distribution='1')]", "found the text '1', expected a list of shares: [0.5, 0.5]"),
        ("[experience('a')]", "found no variants, expected a list of at least one"),
        ("[flag('a', control=1, variants=[])]", "found no variants, expected a list of at least one"),
        ("[experience('a', {'b', 'c'})]", "found a set, which has no order, expected a list of variants"),
    ],
)
def test_a_mistake_in_the_use_of_a_builder_is_named_with_its_line(folder: Path, content: str, message: str) -> None:
    file = folder / "mistaken.py"
    file.write_text(f"from ninetailed_wsgi.authoring import *\n\ncontent = {content}\n")
    assert re.match(rf"content: {re.escape(str(file))}:3: \w+Error: ", reason := refused("mistaken:content"))
    assert message in reason


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def content():\n    return []\n", "the function content, expected a list of audiences and experiences, as "),
        ("def content():\n    return []\n", ": name a list that holds what content() returns"),
        ("async def content():\n    return []\n", ": an async function cannot make it"),
        ("content = (one for one in [])\n", "content is a generator, expected a list"),
        ("content = (one for one in [])\n", ": list(...) makes one"),
        ("def made(): ...\ncontent = made()\n", "content is None, expected a list"),
        ("def made(): ...\ncontent = made()\n", ": the function that made it may lack a return"),
        ("class content: ...\n", "content is the class content, expected a list"),
        (
            "from ninetailed_wsgi.authoring import experience\ncontent = {'hero': experience('hero', ['b'])}\n",
            "content is a dict of what builders made, expected a list",
        ),
        (
            "from ninetailed_wsgi.authoring import experience\ncontent = [{'hero': experience('hero', ['b'])}]\n",
            "item 1: is a dict of what builders made, expected what a builder",
        ),
        (
            "from ninetailed_wsgi.authoring import viewed\ncontent = [viewed('/a')]\n",
            "item 1: is a rule without an audience(...) around it, expected what a builder",
        ),
        (
            "from ninetailed_wsgi.authoring import any_of, viewed\ncontent = any_of(viewed('/a'))\n",
            "content is a rule without an audience(...) around it, expected a list",
        ),
    ],
)
def test_a_list_that_is_none_says_how_to_make_one(folder: Path, code: str, message: str) -> None:
    (folder / "listless.py").write_text(code)
    assert message in refused("listless:content")


def test_a_plain_copy_of_an_experience_keeps_its_audience() -> None:
    offer = experience("hero", ["hero-b"], audience=audience(viewed("/prices"), id="readers"), id="offer")
    catalog = served([{**offer, "name": "Offer"}])
    assert [(one.name, one.audience) for one in catalog.experience_list] == [("Offer", "readers")]


def test_shares_that_were_rounded_are_served() -> None:
    served([experience("hero", ["hero-b", "hero-c"], distribution=[0.34, 0.34, 0.33])])
    served([experience("hero", ["b", "c", "d", "e", "f"], distribution=[0.17] * 6)])


def test_a_file_of_python_is_named_as_a_module(folder: Path) -> None:
    (folder / "offers.py").write_text("content = []\n")
    with pytest.raises(SettingsError, match=r"found 'offers\.py', expected .*offers:NAME with the name of its list"):
        Settings(content="offers.py")  # type: ignore[arg-type]
    assert "write the module without .py: offers:content" in refused("offers.py:content")
    with pytest.raises(SettingsError, match=r"package\.module:name of content in Python; there is no"):
        Settings(content="offers")  # type: ignore[arg-type]


def test_a_module_that_is_missing_is_named(folder: Path) -> None:
    assert refused("shop.experimants:content").startswith(
        "content: shop.experimants:content: ModuleNotFoundError: No module named 'shop'; looked for in "
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sys:modules", "sys:modules, item 1: sys: found a module, expected JSON"),
        ("os:system", "system is the function system, expected a list"),
        ("json:dumps", "dumps is the function dumps"),
        ("sys:nothing", "sys: has no nothing"),
    ],
)
def test_a_name_of_something_else_is_refused(name: str, message: str) -> None:
    assert message in refused(name)


def test_a_module_or_an_item_that_raises_when_it_is_read_is_named(folder: Path) -> None:
    file = folder / "lazy_content.py"
    file.write_text("def __getattr__(name):\n    raise RuntimeError('no ' + name)\n")
    assert f"{file}:2: RuntimeError: no content" in refused("lazy_content:content")

    class Odd(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("odd")

    assert "item 1: cannot be read: RuntimeError: odd" in refused([Odd(id="x")])


def test_content_of_a_module_that_is_being_imported_says_what_to_do(folder: Path) -> None:
    (folder / "circular.py").write_text(
        "from ninetailed_wsgi import create_app\n"
        "app = create_app(content='circular:content', data_dir='data')\n"
        "content = []\n"
    )
    with pytest.raises(SettingsError, match=r"circular\.py: has no content yet, it is still being imported: move"):
        __import__("circular")


@pytest.mark.parametrize("content", ["shop/missing.json", "shop:", ":content", "shop.:content", "1shop:content"])
def test_what_is_neither_a_path_nor_a_name_is_refused(content: str) -> None:
    with pytest.raises(SettingsError, match=r"content \(--content, NINETAILED_CONTENT\): found .*there is no"):
        Settings(content=content)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [" ; ", ";;", 5, {1, 2}, b"x", iter([])], ids=lambda one: type(one).__name__)
def test_what_names_nothing_is_refused(content: object) -> None:
    with pytest.raises(SettingsError, match=r"content .*expected the path of a content file"):
        Settings(content=content)  # type: ignore[arg-type]


def test_a_password_in_a_list_is_not_shown() -> None:
    with pytest.raises(SettingsError) as error:
        Settings(content=["ftp://user:secret-word@shop.example/x"])  # type: ignore[arg-type]
    assert "secret-word" not in str(error.value)


# Ids and items


def test_ids_do_not_depend_on_where_code_is() -> None:
    here = audience(trait("plan"), viewed("/a"))

    def elsewhere() -> authoring.Audience:
        return audience(trait("plan"), viewed("/a"))

    assert here["id"] == elsewhere()["id"]
    assert here == elsewhere()
    assert here.place != elsewhere().place
    assert served([here]).version == served([elsewhere()]).version


def test_a_changed_copy_of_an_item_keeps_its_place() -> None:
    changed = OFFER | {"name": "Another name"}
    assert (changed.place, changed["name"], type(changed)) == (OFFER.place, "Another name", authoring.Experience)
    for same in (OFFER.copy(), copy.deepcopy(OFFER), pickle.loads(pickle.dumps(OFFER))):
        assert (same, same.place) == (OFFER, OFFER.place)


def test_testing_has_the_same_builders() -> None:
    builders = [name for name in authoring.__all__ if name.islower()]
    assert len(builders) == 21
    for name in builders:
        assert getattr(testing, name) is getattr(authoring, name)
        assert name in testing.__all__
        assert name in authoring.__all__


def test_a_component_that_is_none_is_named_at_once() -> None:
    with pytest.raises(TypeError, match=r"expected a component .*: write audience=audience\(\.\.\.\)"):
        experience("hero", ["hero-b"], INTERESTED)
    with pytest.raises(TypeError, match=r"expected a list of experiences: \['offer'\]"):
        entry("hero", "offer")


def test_a_harness_takes_all_that_the_option_takes(folder: Path) -> None:
    (folder / "harness_content.py").write_text(MODULE)
    with Harness("harness_content:content") as harness:
        assert harness.visitor().views("/pricing").views("/pricing").variant("hero") == "hero-offer"
