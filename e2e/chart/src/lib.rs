//! The Helm chart as data: what it renders, which rights it gives, and the README that its values say.

pub mod readme;
pub mod rendered;
pub mod rights;
