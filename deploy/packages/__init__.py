"""What a site installs: the wheel, the Debian package, and what is said of them (contents, licences)."""
