"""A model's folder that somebody made to do harm: what it links to, how large it is, what its template does."""

from pathlib import Path

import jinja2
import pytest
from transformers import PreTrainedTokenizerFast

from behaviorlm.errors import BehaviorLMError, ModelError
from behaviorlm.model.base_model import base_folder, load_model, load_tokenizer, model_fingerprint
from behaviorlm.model.config import ModelConfig
from behaviorlm.model.model_files import MOST_BYTES
from behaviorlm.model.weight_files import INDEX
from behaviorlm.prompts.config import PromptConfig
from behaviorlm.prompts.encoder import PromptEncoder
from tests.behaviorlm.tokenizers_for_tests import small_tokenizer

SECRET = "aws_secret_access_key = planted"


def test_a_link_to_a_file_elsewhere_is_refused_for_an_export_would_copy_what_it_holds(
    copied: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "credentials"
    secret.write_text(SECRET)
    (copied / "notes.txt").symlink_to(secret)
    assert (copied / "notes.txt").read_text() == SECRET  # so it would
    config = ModelConfig(base=str(copied))
    for use in (base_folder, load_model, load_tokenizer, model_fingerprint):
        with pytest.raises(ModelError, match=r"notes\.txt is a link to .*credentials, outside"):
            use(config)
    (copied / "notes.txt").unlink()
    (copied / "notes.txt").symlink_to("config.json")
    base_folder(config)


def test_weights_may_lie_elsewhere_and_the_hubs_cache_is_made_of_links(copied: Path, tmp_path: Path) -> None:
    weights = tmp_path / "large disk.safetensors"
    (copied / "model.safetensors").rename(weights)
    (copied / "model.safetensors").symlink_to(weights)
    base_folder(ModelConfig(base=str(copied)))
    model = tmp_path / "models--owner--name"
    (model / "blobs").mkdir(parents=True)
    (model / "snapshots" / "1a2b").mkdir(parents=True)
    for path in copied.iterdir():
        (model / "blobs" / path.name).write_bytes(path.read_bytes())
        (model / "snapshots" / "1a2b" / path.name).symlink_to(Path("..", "..", "blobs", path.name))
    found = ModelConfig(base=str(model / "snapshots" / "1a2b"))
    assert model_fingerprint(found) == model_fingerprint(ModelConfig(base=str(copied)))


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "vocab.txt"])
def test_a_file_of_gigabytes_is_refused_before_it_is_read(copied: Path, name: str) -> None:
    with (copied / name).open("ab") as file:
        file.truncate(MOST_BYTES + 1)  # without taking any room
    with pytest.raises(ModelError, match=rf"{name} has 512 MiB, and no file"):
        load_tokenizer(ModelConfig(base=str(copied)))


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/tmp/other.safetensors", "below/other.safetensors"]
)
def test_an_index_that_names_files_elsewhere_is_refused(copied: Path, name: str) -> None:
    (copied / INDEX).write_text(f'{{"weight_map": {{"lm_head.weight": "{name}"}}}}')
    with pytest.raises(ModelError, match="which is no file of its folder"):
        load_model(ModelConfig(base=str(copied)))


ESCAPES = {
    "globals": "{{{{ cycler.__init__.__globals__['os'].mkdir('{marker}') }}}}",
    "attribute filter": "{{{{ (cycler|attr('__init__')|attr('__globals__'))['os'].mkdir('{marker}') }}}}",
    "subclasses": "{{% for each in ''.__class__.__mro__[1].__subclasses__() if each.__name__ == '_wrap_close' %}}"
    "{{{{ each.__init__.__globals__['mkdir']('{marker}') }}}}{{% endfor %}}",
    "include": "{{% include '/etc/passwd' %}}",
    "format": "{{{{ '{{0.__class__.__init__.__globals__}}'.format(cycler) }}}}",
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_chat_template_reaches_nothing_but_the_messages(escape: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    source = ESCAPES[escape].format(marker=marker)
    tokenizer: PreTrainedTokenizerFast = small_tokenizer(
        "{% for message in messages %}{{ message['role'] + message['content'] }}{% endfor %}" + source
    )
    with pytest.raises(BehaviorLMError, match="template"):
        PromptEncoder(tokenizer, PromptConfig())
    assert not marker.exists()
    if escape not in ("include", "format"):
        jinja2.Template(source).render()
        assert marker.is_dir()  # it would have acted


def test_a_chat_template_does_not_loop_for_long(tmp_path: Path) -> None:
    with pytest.raises(BehaviorLMError, match="template"):
        PromptEncoder(small_tokenizer("{% for i in range(999999999) %}x{% endfor %}"), PromptConfig())
