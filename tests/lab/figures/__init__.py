"""The figures of docs/performance.md and comparison.md, measured."""
