//! Connections to members: observation of them, and the only writes to them.
