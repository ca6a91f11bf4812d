//! Pending in this step.
