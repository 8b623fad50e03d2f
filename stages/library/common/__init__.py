"""What every room uses: errors, files, downloads, processes."""
