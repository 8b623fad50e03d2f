"""Tables of backbones that one class builds."""
