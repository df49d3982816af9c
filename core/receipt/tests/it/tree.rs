//! The tree against the definitions of RFC 6962 section 2.1, written down a second time.

use countersign_receipt::{
    Frontier, LeafHash, Nodes, consistency_path, inclusion_path, leaf_hash, node_hash, verify_consistency,
    verify_inclusion,
};
use proptest::prelude::*;

use crate::support::Leaves;

/// MTH of RFC 6962 section 2.1.
fn mth(leaves: &[LeafHash]) -> LeafHash {
    match leaves {
        [] => Frontier::new().root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&mth(left), &mth(right))
        }
    }
}

fn leaves(count: u64) -> Vec<LeafHash> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

fn grown(leaves: &[LeafHash]) -> Frontier {
    let mut tree = Frontier::new();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree
}

#[test]
fn the_empty_tree_has_the_hash_of_nothing() {
    let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(hash, hex::encode(Frontier::new().root()));
}

#[test]
fn the_root_is_the_recursive_one_at_every_size_and_survives_a_restart() {
    let all = leaves(130);
    let mut tree = Frontier::new();
    for (size, leaf) in (1..).zip(&all) {
        tree.push(*leaf);
        assert_eq!(mth(&all[..size]), tree.root(), "size {size}");
        let again = Frontier::from_hashes(tree.size(), tree.hashes().to_vec()).unwrap();
        assert_eq!(tree, again);
    }
    assert!(Frontier::from_hashes(130, tree.hashes()[1..].to_vec()).is_err());
}

#[test]
fn every_leaf_of_every_small_tree_is_proved_to_be_there_and_nowhere_else() {
    let all = leaves(24);
    for size in 1..=24 {
        let root = grown(&all[..size as usize]).root();
        for index in 0..size {
            let path = inclusion_path(index, size, &Leaves(&all)).unwrap();
            for claimed in 0..size {
                let holds = verify_inclusion(&all[index as usize], claimed, size, &path, &root).is_ok();
                assert_eq!(claimed == index, holds, "leaf {index} of {size} at {claimed}");
            }
        }
    }
}

#[test]
fn every_small_tree_is_proved_to_begin_with_every_smaller_one() {
    let all = leaves(24);
    for new in 1..=24_u64 {
        for old in 1..=new {
            let path = consistency_path(old, new, &Leaves(&all)).unwrap();
            let (a, b) = (grown(&all[..old as usize]).root(), grown(&all[..new as usize]).root());
            assert_eq!(Ok(()), verify_consistency(old, &a, new, &b, &path), "{old} to {new}");
            assert!(verify_consistency(old, &[9; 32], new, &b, &path).is_err(), "{old} to {new}, other root");
        }
    }
}

proptest! {
    #[test]
    fn a_changed_proof_proves_nothing(size in 2..400_u64, at in any::<prop::sample::Index>(), bit in 0..256_usize) {
        let all = leaves(size);
        let root = grown(&all).root();
        let index = at.index(size as usize) as u64;
        let mut path = inclusion_path(index, size, &Leaves(&all)).unwrap();
        prop_assert_eq!(Ok(()), verify_inclusion(&all[index as usize], index, size, &path, &root));
        let place = at.index(path.len());
        path[place][bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify_inclusion(&all[index as usize], index, size, &path, &root).is_err());
    }

    #[test]
    fn no_proof_of_any_shape_makes_the_check_panic(
        numbers in any::<(u64, u64)>(), path in prop::collection::vec(any::<LeafHash>(), 0..70), root in any::<LeafHash>()
    ) {
        prop_assert!(verify_inclusion(&root, numbers.0, numbers.1, &path, &root).is_err() || path.is_empty());
        let consistent = verify_consistency(numbers.0, &root, numbers.1, &root, &path);
        prop_assert!(consistent.is_err() || numbers.0 == numbers.1);
    }
}

#[test]
fn a_path_asks_for_complete_subtrees_only() {
    struct Asked(std::cell::RefCell<Vec<(u8, u64)>>);
    impl Nodes for Asked {
        type Error = ();
        fn node(&self, height: u8, index: u64) -> Result<LeafHash, ()> {
            self.0.borrow_mut().push((height, index));
            Ok([0; 32])
        }
    }
    let asked = Asked(Vec::new().into());
    let size = 1_000_003;
    inclusion_path(777_777, size, &asked).unwrap();
    for (height, index) in asked.0.into_inner() {
        assert!((index + 1) << height <= size, "subtree {index} of height {height} is not complete");
    }
}
