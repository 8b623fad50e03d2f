"""Compares KerasHub's networks, as Decant builds and fills them, with PyTorch's transformers on the same random files.

    pip install -r requirements-hub.txt torch transformers
    python -m checks.compare_hub

Each network is written in Hugging Face's layout, with few small blocks and in its published size, and read by both. The
table has the largest difference of the features, at the published side and at another one: for a vision transformer
with the class tokens of one block and of two, beside the mean of the patches.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from checks import hub_files
from stages.library.networks.hub import FAMILIES, has_class_token
from stages.plugins.backbones.families.hub import MEMBERS

IMAGES = 2


def expected(folder, config, pixels, feature_blocks):
    """Features by transformers, float32 (n, width), for pixels (n, side, side, 3) of [0, 255]."""
    import torch
    import transformers

    kind = config["model_type"]
    network = transformers.SiglipVisionModel if kind == "siglip_vision_model" else transformers.AutoModel
    options = {"add_pooling_layer": False} if kind == "vit" else {}
    model, found = network.from_pretrained(folder, output_loading_info=True, **options)
    assert not found["missing_keys"], found["missing_keys"]
    mean, deviation = map(np.array, FAMILIES[kind].normalization)
    scaled = (pixels / 255 - mean) / deviation
    options = {"interpolate_pos_encoding": True} if kind in ("vit", "siglip_vision_model") else {}
    with torch.no_grad():
        given = torch.tensor(scaled.transpose(0, 3, 1, 2), dtype=torch.float32)
        outputs = model.eval()(given, output_hidden_states=True, **options)
        tokens = outputs.last_hidden_state
        if kind == "swin":
            return tokens.mean(1).numpy()
        if kind == "siglip_vision_model":
            return torch.cat([outputs.pooler_output, tokens.mean(1)], 1).numpy()
        norm = model.norm if kind == "dinov3_vit" else model.layernorm
        states = [norm(state) for state in outputs.hidden_states[-feature_blocks:]]
        patches = states[-1][:, 1 + config.get("num_register_tokens", 0) :]
        return torch.cat([*(state[:, 0] for state in states), patches.mean(1)], 1).numpy()


def compared(preset, folder, sides):
    """Yields side, blocks, features by Decant and by transformers of a network."""
    path = hub_files.write(folder, preset.config)
    for side in sides:
        pixels = np.random.default_rng(1).integers(0, 256, (IMAGES, side, side, 3)).astype(np.float32)
        for feature_blocks in (1, 2) if has_class_token(preset.config) else (1,):
            chosen = preset.with_feature_blocks(feature_blocks)
            model = chosen.load_weights(chosen.build(side), path)
            found = np.asarray(model(pixels, training=False)["bottleneck"])
            wanted = expected(folder, preset.config, pixels, feature_blocks)
            assert found.shape == wanted.shape == (IMAGES, chosen.BACKBONE.feature_width)
            yield side, feature_blocks, found, wanted


def main():
    """Prints the table, or what the test compares with."""
    parser = argparse.ArgumentParser(
        prog="python -m checks.compare_hub", usage="%(prog)s [options]", description=__doc__
    )
    parser.add_argument("--only", nargs="*", default=list(MEMBERS), help="names of backbones of the published sizes")
    parser.add_argument("--expected", action="store_true", help="print some features of the small networks instead")
    arguments = parser.parse_args()
    small = [(f"{kind}, small", hub_files.small(kind), hub_files.SIDES.get(kind, (64, 96))) for kind in FAMILIES]
    whole = [(name, MEMBERS[name], sides(MEMBERS[name])) for name in arguments.only]
    if not arguments.expected:
        print("| network | side | blocks | largest difference | mean size |\n|---|---|---|---|---|")
    for title, preset, at in small if arguments.expected else small + whole:
        with tempfile.TemporaryDirectory() as folder:
            for side, blocks, found, wanted in compared(preset, Path(folder), at):
                if arguments.expected:
                    values = ", ".join(f"{value:.5f}" for value in wanted[0, :: wanted.shape[1] // 4][:4])
                    print(f'    ("{preset.config["model_type"]}", {side}, {blocks}, [{values}]),', flush=True)
                else:
                    difference, size = np.abs(found - wanted).max(), np.abs(wanted).mean()
                    print(f"| {title} | {side} | {blocks} | {difference:.1e} | {size:.2f} |", flush=True)


def sides(preset):
    """The published side, and another one: what is used, or two steps more."""
    own, used = preset.config["image_size"], preset.BACKBONE.input_size_px
    return own, used if used != own else own + 2 * preset.step_px


if __name__ == "__main__":
    main()
