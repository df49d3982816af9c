//! The Merkle tree's hashes in tiles of 256, as C2SP tlog-tiles has them: level `l` holds the roots of the complete
//! subtrees of 256^l leaves. Here is its right end, from what the index does not hold yet to the newest leaf.

use countersign_receipt::{Frontier, LeafHash, Nodes, node_hash};

/// Hashes in a full tile.
pub(crate) const TILE_WIDTH: usize = 256;
const WIDTH: u64 = TILE_WIDTH as u64;
/// log2 of [`TILE_WIDTH`].
const TILE_HEIGHT: u8 = 8;

/// One tile, full or not yet.
pub(crate) struct Tile {
    pub(crate) level: u8,
    pub(crate) number: u64,
    pub(crate) hashes: Vec<LeafHash>,
}

/// The right end of the tree.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    size: u64,
    levels: Vec<Level>,
}

#[derive(Clone, Default)]
struct Level {
    /// Number of the first tile in `hashes`.
    first_tile: u64,
    hashes: Vec<LeafHash>,
}

impl Level {
    fn get(&self, index: u64) -> Option<LeafHash> {
        let at = index.checked_sub(self.first_tile * WIDTH)?;
        self.hashes.get(usize::try_from(at).ok()?).copied()
    }
}

/// How many hashes level `level` has in a tree of `size` leaves.
pub(crate) fn width(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
}

impl Tree {
    /// Continues a tree of `size` leaves. `edge` tells the last tile of a level, of which only the hashes that belong
    /// to the tree of `size` are taken.
    ///
    /// # Errors
    ///
    /// When `edge` fails or gives too few hashes.
    pub(crate) fn resume<E>(
        size: u64,
        mut edge: impl FnMut(u8, u64) -> Result<Vec<LeafHash>, E>,
    ) -> Result<Self, E> {
        let mut levels = Vec::new();
        for level in 0.. {
            let hashes = width(size, level);
            if hashes == 0 {
                break;
            }
            let first_tile = hashes / WIDTH;
            let wanted = usize::try_from(hashes % WIDTH).unwrap_or(0);
            let mut kept = if wanted == 0 { Vec::new() } else { edge(level, first_tile)? };
            kept.truncate(wanted);
            levels.push(Level { first_tile, hashes: kept });
        }
        Ok(Self { size, levels })
    }

    /// Appends a leaf.
    pub(crate) fn push(&mut self, leaf: LeafHash) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Level::default());
            }
            let hashes = &mut self.levels[level].hashes;
            hashes.push(hash);
            // Whatever is dropped is dropped in full tiles, so a full tile lies at the end as a whole.
            if !hashes.len().is_multiple_of(TILE_WIDTH) {
                return;
            }
            hash = root_of(&hashes[hashes.len() - TILE_WIDTH..]);
        }
    }

    /// Number of leaves.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The tiles that are new or wider than they were when the tree had `size` leaves.
    pub(crate) fn tiles_since(&self, size: u64) -> Vec<Tile> {
        let mut tiles = Vec::new();
        for (number, level) in (0..).zip(&self.levels) {
            let before = width(size, number);
            if before == width(self.size, number) {
                continue;
            }
            let skipped = (before / WIDTH).saturating_sub(level.first_tile);
            let first = level.first_tile + skipped;
            let chunks = level.hashes.chunks(TILE_WIDTH).skip(usize::try_from(skipped).unwrap_or(0));
            for (tile, hashes) in (first..).zip(chunks) {
                tiles.push(Tile { level: number, number: tile, hashes: hashes.to_vec() });
            }
        }
        tiles
    }

    /// Forgets the tiles that were full when the tree had `size` leaves.
    pub(crate) fn forget(&mut self, size: u64) {
        for (number, level) in (0..).zip(&mut self.levels) {
            let full = (width(size, number) / WIDTH).saturating_sub(level.first_tile);
            let hashes = usize::try_from(full * WIDTH).unwrap_or(0).min(level.hashes.len());
            level.hashes.drain(..hashes);
            level.first_tile += full;
        }
    }
}

/// A [`Tree`] with the tiles that it forgot: all nodes.
pub(crate) struct Whole<'t, F> {
    pub(crate) tree: &'t Tree,
    /// Reads a full tile.
    pub(crate) tile: F,
}

impl<F, E> Nodes for Whole<'_, F>
where
    F: Fn(u8, u64) -> Result<Vec<LeafHash>, E>,
{
    type Error = E;

    fn node(&self, height: u8, index: u64) -> Result<LeafHash, E> {
        let (level, within) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
        let (first, count) = (index << within, 1_u64 << within);
        let held = self.tree.levels.get(usize::from(level));
        if let Some(hashes) =
            held.and_then(|level| (first..first + count).map(|i| level.get(i)).collect::<Option<Vec<_>>>())
        {
            return Ok(root_of(&hashes));
        }
        // 2^within hashes that begin at a multiple of 2^within lie in one tile.
        let tile = (self.tile)(level, first / WIDTH)?;
        let start = usize::try_from(first % WIDTH).unwrap_or(0);
        let end = (start + usize::from(1_u16 << within)).min(tile.len());
        Ok(root_of(&tile[start.min(end)..end]))
    }
}

impl<F, E> Whole<'_, F>
where
    F: Fn(u8, u64) -> Result<Vec<LeafHash>, E>,
{
    /// The edge that the tree had when it had `size` leaves.
    ///
    /// # Errors
    ///
    /// When a tile cannot be read.
    pub(crate) fn frontier(&self, size: u64) -> Result<Frontier, E> {
        let mut hashes = Vec::new();
        let mut start = 0;
        for height in (0..64_u8).rev().filter(|height| size >> height & 1 == 1) {
            hashes.push(self.node(height, start >> height)?);
            start += 1 << height;
        }
        // One hash per set bit, so there is no other number of them.
        Ok(Frontier::from_hashes(size, hashes).unwrap_or_default())
    }
}

/// Root over a power of two of hashes.
fn root_of(hashes: &[LeafHash]) -> LeafHash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks(2).map(|pair| node_hash(&pair[0], &pair[pair.len() - 1])).collect();
    }
    row.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use countersign_receipt::{inclusion_path, leaf_hash, verify_inclusion};

    use super::*;

    #[test]
    fn every_leaf_has_a_proof_whatever_was_forgotten() {
        let mut tree = Tree::default();
        let mut tiles = HashMap::new();
        let mut frontier = Frontier::new();
        let mut kept = 0;
        let leaves: Vec<_> = (0..70_000_u64).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut roots = HashMap::new();
        for (i, leaf) in leaves.iter().enumerate() {
            tree.push(*leaf);
            frontier.push(*leaf);
            if i % 7_919 == 0 {
                tiles.extend(tree.tiles_since(kept).into_iter().map(|t| ((t.level, t.number), t.hashes)));
                kept = tree.size();
                tree.forget(kept);
                tree =
                    Tree::resume(kept, |level, n| Ok::<_, Infallible>(tiles[&(level, n)].clone())).unwrap();
            }
            if i % 4_441 == 0 {
                roots.insert(frontier.size(), frontier.root());
            }
        }
        roots.insert(frontier.size(), frontier.root());
        let whole = Whole { tree: &tree, tile: |level, n| Ok::<_, Infallible>(tiles[&(level, n)].clone()) };
        for (size, root) in roots {
            assert_eq!(root, whole.frontier(size).unwrap().root(), "{size}");
            for index in
                [0, 1, size / 3, size / 2, size.saturating_sub(2), size - 1].into_iter().filter(|i| *i < size)
            {
                let path = inclusion_path(index, size, &whole).unwrap();
                let leaf = &leaves[usize::try_from(index).unwrap()];
                assert_eq!(Ok(()), verify_inclusion(leaf, index, size, &path, &root), "{index} of {size}");
            }
        }
    }
}
