"""The bundled probes, one folder each; registered as anyone's are, by entry points."""
