//! No bytes make the readers of certificates panic.

use std::sync::LazyLock;
use std::time::SystemTime;

use proptest::prelude::*;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;

use super::made::World;
use crate::{Verifier, leaf, spiffe_id};

static GOOD: LazyLock<(Verifier, Vec<CertificateDer<'static>>)> = LazyLock::new(|| {
    let world = World::new();
    let leaf = world.intermediate.leaf("web", &KeyPair::generate().unwrap(), |_| {});
    (Verifier::new(&world.bundle(&[])).unwrap(), vec![leaf, world.intermediate.der.clone()])
});

fn read_by_all(chain: &[CertificateDer<'_>]) {
    for der in chain {
        // Whatever is taken for an SVID has a name that the other parser finds too, or the verifier says no.
        let _ = leaf(der);
    }
    let _ = spiffe_id(chain);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_are_no_leaf(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let chain = [CertificateDer::from(bytes)];
        read_by_all(&chain);
        prop_assert!(GOOD.0.verify(&chain, SystemTime::now()).is_err());
    }

    #[test]
    fn a_real_chain_with_another_byte_is_refused(
        which in 0_usize..2, at in any::<prop::sample::Index>(), flip in 1_u8..=255,
    ) {
        let (verifier, chain) = &*GOOD;
        let mut chain = chain.clone();
        let mut der = chain[which].to_vec();
        let at = at.index(der.len());
        der[at] ^= flip;
        chain[which] = der.into();
        read_by_all(&chain);
        prop_assert!(verifier.verify(&chain, SystemTime::now()).is_err(), "byte {at} of certificate {which}");
    }

    #[test]
    fn a_part_of_a_real_certificate_is_refused(which in 0_usize..2, at in any::<prop::sample::Index>()) {
        let (verifier, chain) = &*GOOD;
        let mut chain = chain.clone();
        let end = at.index(chain[which].len());
        chain[which] = chain[which][..end].to_vec().into();
        read_by_all(&chain);
        prop_assert!(verifier.verify(&chain, SystemTime::now()).is_err());
    }
}

#[test]
fn the_chain_that_is_changed_in_these_tests_is_a_good_one() {
    assert!(GOOD.0.verify(&GOOD.1, SystemTime::now()).is_ok());
}
