//! The Merkle tree of RFC 6962 section 2.1 (the same as RFC 9162's) over SHA-256.

use sha2::{Digest, Sha256};

/// RFC 6962 leaf hash or node hash.
pub type LeafHash = [u8; 32];

/// SHA-256(0x00 || bytes).
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> LeafHash {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

/// SHA-256(0x01 || left || right).
#[must_use]
pub fn node_hash(left: &LeafHash, right: &LeafHash) -> LeafHash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree cannot be continued from what was kept of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The edge of a tree of `size` leaves has one hash per set bit of `size`.
    #[error("the edge of a tree of {size} leaves has {expected} hashes, not {found}")]
    Edge {
        /// Number of leaves.
        size: u64,
        /// How many hashes its edge has.
        expected: u32,
        /// How many were given.
        found: usize,
    },
}

/// The right edge of a tree: enough to append to it and to tell its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees, from the left, largest first: one per set bit of `size`.
    hashes: Vec<LeafHash>,
}

impl Frontier {
    /// The edge of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues a tree of `size` leaves from its edge, as [`Frontier::hashes`] gave it.
    ///
    /// # Errors
    ///
    /// [`TreeError::Edge`] when there are not as many hashes as `size` has set bits.
    pub fn from_hashes(size: u64, hashes: Vec<LeafHash>) -> Result<Self, TreeError> {
        let expected = size.count_ones();
        if usize::try_from(expected).ok() != Some(hashes.len()) {
            return Err(TreeError::Edge { size, expected, found: hashes.len() });
        }
        Ok(Self { size, hashes })
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: LeafHash) {
        let mut hash = leaf;
        // Each trailing one of the old size is a complete subtree as large as the one that `hash` now stands for.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree; of the empty tree, SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> LeafHash {
        let mut edge = self.hashes.iter().rev();
        match edge.next() {
            None => Sha256::digest([]).into(),
            Some(last) => edge.fold(*last, |right, left| node_hash(left, &right)),
        }
    }

    /// Roots of the complete subtrees, from the left, largest first: one per set bit of the size.
    #[must_use]
    pub fn hashes(&self) -> &[LeafHash] {
        &self.hashes
    }
}

/// Where the hashes of complete subtrees come from.
pub trait Nodes {
    /// Why a hash cannot be told.
    type Error;

    /// Root of the complete subtree over leaves `index * 2^height .. (index + 1) * 2^height`.
    ///
    /// # Errors
    ///
    /// When the hash cannot be read.
    fn node(&self, height: u8, index: u64) -> Result<LeafHash, Self::Error>;
}

/// The hashes that prove leaf `index` in the tree of `size` leaves, nearest first (RFC 6962 section 2.1.1).
/// `index` must be below `size`; otherwise there is no such leaf and the path is empty.
///
/// # Errors
///
/// When `nodes` cannot give a hash.
pub fn inclusion_path<N: Nodes>(index: u64, size: u64, nodes: &N) -> Result<Vec<LeafHash>, N::Error> {
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    while index < end && end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(root_of(middle, end, nodes)?);
            end = middle;
        } else {
            path.push(root_of(start, middle, nodes)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The hashes that prove that the tree of `new` leaves begins with the tree of `old` leaves
/// (RFC 6962 section 2.1.2). Empty when `old` is 0 or not below `new`: then nothing has to be shown, or nothing can.
///
/// # Errors
///
/// When `nodes` cannot give a hash.
pub fn consistency_path<N: Nodes>(old: u64, new: u64, nodes: &N) -> Result<Vec<LeafHash>, N::Error> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return Ok(path);
    }
    let (mut start, mut end) = (0, new);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(root_of(middle, end, nodes)?);
            end = middle;
        } else {
            path.push(root_of(start, middle, nodes)?);
            start = middle;
        }
    }
    // The verifier knows the old root itself, so it need not be told it.
    if start != 0 {
        path.push(root_of(start, end, nodes)?);
    }
    path.reverse();
    Ok(path)
}

/// The largest power of two below `leaves`, which is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Root over the leaves `start..end`, where `start` is a multiple of the subtree's width: true for every subtree
/// that RFC 6962 speaks of.
fn root_of<N: Nodes>(start: u64, end: u64, nodes: &N) -> Result<LeafHash, N::Error> {
    let leaves = end - start;
    if leaves.is_power_of_two() {
        let height = leaves.trailing_zeros();
        return nodes.node(u8::try_from(height).unwrap_or(u8::MAX), start >> height);
    }
    let middle = start + split(leaves);
    Ok(node_hash(&root_of(start, middle, nodes)?, &root_of(middle, end, nodes)?))
}

/// A proof does not prove what it was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf, or the older tree is empty or the larger one.
    #[error("the proof is about a place outside the tree")]
    Range,
    /// The path has too few or too many hashes.
    #[error("the proof has the wrong length")]
    Length,
    /// The path leads to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Checks that `leaf` is at `index` in the tree of `size` leaves with this root (RFC 9162 section 2.1.3.2).
///
/// # Errors
///
/// [`ProofError`]
pub fn verify_inclusion(
    leaf: &LeafHash,
    index: u64,
    size: u64,
    path: &[LeafHash],
    root: &LeafHash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            (node, last) = climb_left(node, last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    settle(last, &[(&hash, root)])
}

/// Checks that the tree of `new` leaves begins with the tree of `old` leaves (RFC 9162 section 2.1.4.2). Every tree
/// begins with the empty one, so a proof of that is refused: whoever asks for it is mistaken about what it shows.
///
/// # Errors
///
/// [`ProofError`]
pub fn verify_consistency(
    old: u64,
    old_root: &LeafHash,
    new: u64,
    new_root: &LeafHash,
    path: &[LeafHash],
) -> Result<(), ProofError> {
    if old == 0 || old > new {
        return Err(ProofError::Range);
    }
    if old == new {
        return if path.is_empty() { settle(0, &[(old_root, new_root)]) } else { Err(ProofError::Length) };
    }
    // A complete old tree is a node of the new one, so its root is not repeated in the path.
    let (first, rest) = match path.split_first() {
        _ if old.is_power_of_two() => (old_root, path),
        Some((first, rest)) => (first, rest),
        None => return Err(ProofError::Length),
    };
    let (mut node, mut last) = (old - 1, new - 1);
    (node, last) = (node >> node.trailing_ones(), last >> node.trailing_ones());
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            (node, last) = climb_left(node, last);
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    settle(last, &[(&old_hash, old_root), (&new_hash, new_root)])
}

/// At the right edge a subtree may hang several levels below its sibling: skips the levels where it has none.
fn climb_left(node: u64, last: u64) -> (u64, u64) {
    let levels = if node == 0 { 0 } else { node.trailing_zeros() };
    (node >> levels, last >> levels)
}

fn settle(last: u64, pairs: &[(&LeafHash, &LeafHash)]) -> Result<(), ProofError> {
    if last != 0 {
        return Err(ProofError::Length);
    }
    if pairs.iter().all(|(found, wanted)| found == wanted) { Ok(()) } else { Err(ProofError::Root) }
}
