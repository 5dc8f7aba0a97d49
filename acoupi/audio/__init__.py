"""The sample path: sources of sound, the stream that captures them, the files they end in.

See ``README.md`` beside this file for how the parts fit together.
"""
