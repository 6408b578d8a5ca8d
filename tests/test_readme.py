"""What the README shows must work as shown."""

import re

from hgrl import paths
from hgrl.methods import REGISTRY
from hgrl.pretrain import pretrain

README = (paths.HOME / "README.md").read_text()


def test_the_readmes_method_trains_when_registered_under_its_name(dataset, tiny, tmp_path, monkeypatch):
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class " in block)
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    name, method = re.search(r'"(\w+)": (\w+),', README).groups()
    monkeypatch.setitem(REGISTRY, name, namespace[method])
    checkpoint = pretrain(name, tiny({}), dataset[0], None, 1.0, tmp_path / "seed0.pt", seed=0)
    assert checkpoint.complete and checkpoint.losses.isfinite().all()


def test_every_file_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)
    assert links and not [link for link in links if not (paths.HOME / link).exists()]


def test_no_placeholder_is_left():
    assert not re.search(r"@[A-Z]+@", README)
