"""What the README shows must work as shown."""

import re

import pytest
import yaml
from conftest import SMALL_PARAMS

from hgrl.core import paths
from hgrl.evaluation.stage import evaluate
from hgrl.pretraining import stage as stages
from hgrl.pretraining.loop import pretrain
from hgrl.pretraining.methods import REGISTRY

README = (paths.HOME / "README.md").read_text()


@pytest.fixture
def example(monkeypatch):
    """The README's method, registered by the README's line; its name."""
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class " in block)
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    name, method = re.search(r'"(\w+)": (\w+),', README).groups()
    monkeypatch.setitem(REGISTRY, name, namespace[method])
    return name


def test_the_readmes_method_trains_when_registered_under_its_name(dataset, tiny, tmp_path, example):
    checkpoint = pretrain(example, tiny({}), dataset[0], None, 1.0, tmp_path / "seed0.pt", seed=0)
    assert checkpoint.complete and checkpoint.losses.isfinite().all()


def test_the_readmes_run_is_trained_and_scored_like_every_other(pipeline, example):
    block = next(
        block
        for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
        if f"method: {example}" in block
    )
    ((run, definition),) = yaml.safe_load(block).items()
    paths.PARAMS.write_text(
        yaml.safe_dump({**SMALL_PARAMS, "runs": {**SMALL_PARAMS["runs"], run: definition}})
    )
    stages.prepare("small", run)
    assert evaluate("retrieval", "small", run)[run][0].keys() == {"embedding", "backbone"}
    assert evaluate("probe", "small", run)[run][0].keys() == {"linear-backbone", "linear-embedding"}


def test_every_file_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)
    assert links and not [link for link in links if not (paths.HOME / link).exists()]


def test_no_placeholder_is_left():
    assert not re.search(r"@[A-Z]+@", README)
