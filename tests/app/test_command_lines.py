"""A wrong command line of any program of app/ ends with 2 and the rule, before anything is read or made."""

import pytest


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("costs --images 15", "--images must be at least 16. Received: 15"),
        ("export", "required: --format"),
        ("export --format coreml", "--format: invalid choice: 'coreml' (choose from saved_model, onnx, tflite)"),
        ("export --format onnx --check -1", "--check must be at least 0. Received: -1"),
        ("predict", "required: PATH"),
        ("predict a.png --top 0", "--top must be at least 1. Received: 0"),
        ("predict a.png --backbone efficientnet_lite0 --size 31", "at least 32 for efficientnet_lite0. Received: 31"),
        ("predict a.png --backbone resnet", "--backbone must be one of"),
        ("predict a.png --size 64", "--size needs --backbone"),
        ("predict a.png --backbone efficientnet_lite0 --model ridge", "--model and --backbone exclude each other"),
        ("predict a.png --json --csv", "not allowed with"),
        ("store clean", "invalid choice: 'clean'"),
        ("tune", "required: HEAD"),
        ("tune ridge --trials 1", "--trials must be at least 2, the first of which is params.yaml. Received: 1"),
        ("web --port 70000", "--port must be 0 to 65535. Received: 70000"),
        ("web --upload-mb 0", "--upload-mb must be 0.001 to 1000. Received: 0"),
        ("web --megapixels 101", "--megapixels must be 0.001 to 100. Received: 101"),
        ("web --request-seconds nan", "--request-seconds must be"),
        ("web --concurrency 0", "--concurrency must be 1 to 256"),
    ],
)
def test_a_wrong_command_line_ends_with_2(run_app, command, message):
    status, out, err = run_app(*command.split())
    assert (status, out) == (2, "")
    assert message.replace("'", "") in " ".join(err.split()).replace("'", "")
