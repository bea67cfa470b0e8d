import pickle

import pytest
import torch
from safetensors.torch import save_file

from ssmvid.backbones import load_checkpoint


def same(model, weights) -> bool:
    return all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("wrapper", [None, "model", "module", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module._orig_mod."])
def test_wrapped_and_prefixed_weights_load(small, tmp_path, wrapper, prefix):
    source, model = small(), small()
    weights = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({wrapper: weights, "epoch": 3} if wrapper else weights, tmp_path / "weights.pth")
    load_checkpoint(model, tmp_path / "weights.pth")
    assert same(model, source.state_dict())


def test_safetensors_load(small, tmp_path):
    source, model = small(), small()
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load_checkpoint(model, tmp_path / "weights.safetensors")
    assert same(model, source.state_dict())


def test_tables_are_resized_to_the_model(small, tmp_path):
    source, model = small(), small(num_frames=6, img_size=(8, 40))
    torch.nn.init.normal_(source.temporal_pos_embedding)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    load_checkpoint(model, tmp_path / "weights.pth")
    clip = torch.randn(1, 3, 6, 8, 40)
    with torch.no_grad():
        torch.testing.assert_close(model(clip), source(clip))


def test_a_table_that_is_not_square_is_refused_at_another_size(small, tmp_path):
    torch.save(small(img_size=(16, 24)).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"6 positions .* rows and columns are unknown"):
        load_checkpoint(small(), tmp_path / "weights.pth")


def test_every_key_that_does_not_fit_is_named_and_nothing_is_loaded(small, tmp_path):
    weights = small().state_dict()
    del weights["norm_f.weight"]
    weights["extra.weight"] = torch.ones(3)
    weights["cls_token"] = torch.ones(1, 1, 7)
    torch.save(weights, tmp_path / "weights.pth")
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit this VideoMamba") as error:
        load_checkpoint(model, tmp_path / "weights.pth")
    for line in (
        "weights.pth",
        "missing     norm_f.weight (16,)",
        "unexpected  extra.weight (3,)",
        "shape       cls_token: expected (1, 1, 16), got (1, 1, 7)",
        "new_head=True",
    ):
        assert line in str(error.value)
    assert same(model, before)


def test_another_number_of_classes_needs_new_head(small, tmp_path):
    source, model = small(num_classes=7), small(num_classes=5)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"shape       head.weight: expected \(5, 16\), got \(7, 16\)"):
        load_checkpoint(model, tmp_path / "weights.pth")
    head = model.head.weight.clone()
    load_checkpoint(model, tmp_path / "weights.pth", new_head=True)
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.norm_f.weight, source.norm_f.weight)
    assert torch.equal(model.layers[1].mixer.in_proj.weight, source.layers[1].mixer.in_proj.weight)


def test_new_head_excuses_no_other_key(small, tmp_path):
    weights = small().state_dict()
    del weights["norm_f.weight"]
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"missing     norm_f\.weight"):
        load_checkpoint(small(), tmp_path / "weights.pth", new_head=True)


class Evil:
    def __reduce__(self):
        return (print, ("code in a checkpoint ran",))


def test_a_file_that_cannot_be_read_is_a_clear_error(small, tmp_path, capsys):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Evil()}, protocol=2))
    torch.save({"model": Evil()}, tmp_path / "evil_zip.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "short.safetensors").write_bytes(b"12345678")
    for name in ("evil.pth", "evil_zip.pth", "empty.pth", "short.safetensors"):
        with pytest.raises(ValueError, match=rf"checkpoint .*{name}: cannot be read as weights"):
            load_checkpoint(small(), tmp_path / name)
    assert "code in a checkpoint ran" not in capsys.readouterr().out
    (tmp_path / "weights.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a \.safetensors file or one of \.pth.*, got '\.txt'"):
        load_checkpoint(small(), tmp_path / "weights.txt")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.pth"):
        load_checkpoint(small(), tmp_path / "absent.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"holds no state_dict.*got keys \['epoch'\]"):
        load_checkpoint(small(), tmp_path / "none.pth")


@pytest.mark.parametrize("classes", [400, 10])
def test_pretrained_goes_through_timm_with_the_same_checks(small, tmp_path, classes):
    """`pretrained=True`, its download replaced by a file: wrapped, made for another size, 400 classes."""
    source = small(num_classes=400)
    torch.save({"model": source.state_dict()}, tmp_path / "weights.pth")
    overlay = {"file": str(tmp_path / "weights.pth"), "hf_hub_id": None}
    options = {"pretrained": True, "pretrained_cfg_overlay": overlay, "num_classes": classes}
    model = small(num_frames=4, **options)
    assert model.temporal_pos_embedding.shape == (1, 4, 16)
    assert torch.equal(model.norm_f.weight, source.norm_f.weight)
    assert torch.equal(model.layers[0].mixer.x_proj.weight, source.layers[0].mixer.x_proj.weight)
    assert torch.equal(model.head.weight, source.head.weight) == (classes == 400)
    with pytest.raises(ValueError, match="does not fit this VideoMamba"):
        small(depth=3, **options)
