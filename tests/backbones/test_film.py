"""FiLM: a context scales and shifts, where it was put."""

import pytest
import torch
from torch import nn

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.film import FiLM, modulate_
from fewshot.backbones.fused import differentiated_once
from fewshot.backbones.mlp import MLP
from fewshot.backbones.resnet12 import ResNet12
from fewshot.errors import UserError

BACKBONES = {
    "pooled": lambda: Conv4((1, 16, 16), filters=3),
    "stride": lambda: Conv4((1, 16, 16), filters=3, downsample="stride"),
    "mlp": lambda: MLP((1, 16, 16), hidden=(6, 5, 4, 3)),
    "sines": lambda: MLP((1, 16, 16), hidden=(6, 5, 4, 3), normalise=False, frequency=3.0),
    "resnet12": lambda: ResNet12((1, 16, 16), widths=(2, 3, 4, 5)),
}


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5, 6)], ids=["vectors", "maps"])
def test_scale_and_shift_are_a_linear_function_of_the_context(shape):
    film, x = FiLM(3, size=2), torch.randn(shape)
    with torch.no_grad():
        film.context.copy_(torch.tensor([2.0, -1.0]))
    weight, bias = film.generator.weight, film.generator.bias
    both = 2 * weight[:, 0] - weight[:, 1] + bias
    scale, shift = (values.view(1, 3, *[1] * (len(shape) - 2)) for values in (both[:3], both[3:]))
    torch.testing.assert_close(film(x), scale * x + shift)


@pytest.mark.parametrize("name", BACKBONES)
def test_it_acts_before_the_chosen_relu(name):
    """Without a scale the ReLU sees the shift alone, the same for all images."""
    backbone = BACKBONES[name]()
    modulate_(backbone, layer=3, size=2)
    (film,) = (module for module in backbone.modules() if isinstance(module, FiLM))
    with torch.no_grad():
        shift = torch.arange(len(film.generator.bias) // 2) - 1.0
        film.generator.bias.copy_(torch.cat([torch.zeros_like(shift), shift]))
    (relu,) = (m[1] for m in backbone.modules() if isinstance(m, nn.Sequential) and film in list(m.children()))
    seen = []
    relu.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    backbone(torch.rand(5, 1, 16, 16))
    with differentiated_once():  # where layers may be fused
        backbone(torch.rand(5, 1, 16, 16))
    assert len(seen) == 2
    for values in seen:
        torch.testing.assert_close(values, shift.view(1, -1, *[1] * (values.ndim - 2)).expand_as(values))


def test_the_third_relu_of_conv4_is_its_third_blocks():
    backbone = BACKBONES["stride"]()
    modulate_(backbone, layer=3, size=2)
    assert isinstance(backbone.blocks[2][2][0], FiLM)
    assert backbone.blocks[2][2][0].context.shape == (2,)


@pytest.mark.parametrize("layer", [0, 5])
def test_a_layer_that_is_not_there_is_refused(layer):
    with pytest.raises(UserError) as error:
        modulate_(BACKBONES["stride"](), layer=layer, size=2)
    assert str(error.value) == f"model.layer={layer} but Conv4 has 4 activations; choose one from 1 to 4"
