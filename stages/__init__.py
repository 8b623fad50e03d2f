"""The pipeline: one script per stage, run by dvc.yaml as `python -m stages.NAME`, never imported."""
