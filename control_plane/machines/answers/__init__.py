"""What unattended installers read (Kickstart, Preseed, autoinstall, cloud-init), rendered from one description; pure.

    model -> rules -> kickstart | preseed | autoinstall | cloud_init -> rendering.render() -> documents

Invariant: no value of a user adds a directive. Values are held to rules per field (`rules`), quoted per format
(`quoting`), YAML is made by a YAML library, and templates of operators run in a sandbox that prints no value unquoted
unless it is plain (`templates`).
"""
