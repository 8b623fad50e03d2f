"""Networks of KerasHub: DINOv2, DINOv3, SigLIP 2, ViT and Swin. See networks/hub.py.

The accuracy of DINOv2 is that of a linear classifier on frozen features, as its authors list it.
"""

from typing import Any

from stages.library.networks.hub import preset

SMALL: dict[str, Any] = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
BASE: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
SMALL_REGISTERS, BASE_REGISTERS = (size | {"num_register_tokens": 4} for size in (SMALL, BASE))
TINY: dict[str, Any] = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24]}
DINOV2, REGISTERS = "dinov2", "dinov2_with_registers"
WITH_REGISTERS = "facebook/dinov2-with-registers"
DINOV3, SIGLIP = "facebook/dinov3-vits16-pretrain-lvd1689m", "google/siglip2-base-patch16-224"
VIT, SWIN = "google/vit-base-patch16-224", "microsoft/swin-tiny-patch4-window7-224"

# Name -> sha256 of the file, as Hugging Face's page of it says; of SigLIP 2 and of the base with registers, as projects
# do that pin them. Of the small one with registers and of DINOv3, whose page is for those who accepted, none was found.
HASHES = {
    "dinov2_small": "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
    "dinov2_base": "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
    "dinov2_base_registers": "7a6f7b3b9fa4b8732e707476a03cd6cdce210048582f21aafb7991c17d98e362",
    "siglip2_base": "612923381c76ec5a9bed335d1c48827e3f2e506ac31b044b63b2031fadee6a0b",
    "vit_base": "1cea07110a4a47edc51420b2dda6f3b8b58e7256e8f44b4ea6aa9696162ccb5d",
    "swin_tiny": "a941acf68a76b365d67738d6c6dce4f0db3ea5224b7cff856d3f8f3753502d29",
}
# Name, `model_type` and name at Hugging Face, parameters at its own input size, published top-1, and what else
# config.json says.
NETWORKS = (
    preset("dinov2_small", DINOV2, "facebook/dinov2-small", 21_628_800, 0.811, **SMALL),
    preset("dinov2_base", DINOV2, "facebook/dinov2-base", 85_724_928, 0.845, **BASE),
    preset("dinov2_small_registers", REGISTERS, f"{WITH_REGISTERS}-small", 21_630_336, 0.809, **SMALL_REGISTERS),
    preset("dinov2_base_registers", REGISTERS, f"{WITH_REGISTERS}-base", 85_728_000, 0.846, **BASE_REGISTERS),
    preset("dinov3_vits16", "dinov3_vit", DINOV3, 21_596_160, input_size_px=256, **SMALL, intermediate_size=1536),
    preset("siglip2_base", "siglip_vision_model", SIGLIP, 92_884_224, **BASE, intermediate_size=3072),
    preset("vit_base", "vit", VIT, 85_798_656, **BASE, intermediate_size=3072),
    preset("swin_tiny", "swin", SWIN, 27_519_354, 0.813, **TINY),
)
MEMBERS = {network.BACKBONE.name: network.pinned(HASHES.get(network.BACKBONE.name)) for network in NETWORKS}
