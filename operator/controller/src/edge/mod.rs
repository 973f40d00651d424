//! The edge: routes, backends and what they report.
