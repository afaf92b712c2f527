//! What the defence against floods keeps.

use std::sync::Mutex;

use aya::{
    Pod,
    maps::{LpmTrie, Map, MapData, MapError, lpm_trie},
};
use tracker_common::{
    abi::{Ban, BanKey, Gauge, GaugeCell, Listener, Place},
    defence::{BUCKETS, MARKS, mark_bit},
};

use super::{
    batch::read_all,
    error::{Error, Result},
    names, sys,
    tables::{
        Tables, array, delete, descriptor, hash, insert, is_missing, lock, opening, reading,
        writing,
    },
};

/// The maps of the defence.
pub(super) struct Defended {
    listeners: Mutex<Map>,
    shares: Mutex<Map>,
    answers: Map,
    bans: Mutex<Map>,
}

impl Defended {
    /// Collects the maps that `map` gives by name, and checks the sizes of their
    /// elements.
    pub(super) fn collect(mut map: impl FnMut(&'static str) -> Result<Map>) -> Result<Self> {
        let (listeners, shares) = (map(names::LISTENERS)?, map(names::SHARES)?);
        let (answers, bans) = (map(names::ANSWERS)?, map(names::BANS)?);
        hash::<Place, Listener>(&listeners, names::LISTENERS)?;
        hash::<Place, u64>(&shares, names::SHARES)?;
        array::<u64>(&answers, names::ANSWERS)?;
        trie::<Ban>(&bans)?;
        Ok(Self {
            listeners: Mutex::new(listeners),
            shares: Mutex::new(shares),
            answers,
            bans: Mutex::new(bans),
        })
    }
}

impl Tables {
    /// Sockets that accept connections, as far as the programs or the agent know
    /// them.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn listeners(&self) -> Result<Vec<(Place, Listener)>> {
        let map = lock(&self.defended.listeners);
        all(&map, names::LISTENERS)
    }

    /// What is known of one of them.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn listener(&self, place: &Place) -> Result<Option<Listener>> {
        let map = lock(&self.defended.listeners);
        match hash::<Place, Listener>(&map, names::LISTENERS)?.get(place, 0) {
            Ok(listener) => Ok(Some(listener)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(reading(names::LISTENERS)(source)),
        }
    }

    /// Replaces what is known of one. The programs count there meanwhile: what
    /// they count between a look and this is lost.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn set_listener(&self, place: &Place, listener: &Listener) -> Result<()> {
        insert(&self.defended.listeners, names::LISTENERS, place, listener)
    }

    /// Forgets one. Its socket is learnt again from its next SYN-ACK.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn clear_listener(&self, place: &Place) -> Result<()> {
        delete::<Place, Listener>(&self.defended.listeners, names::LISTENERS, place)
    }

    /// Half-open flows by listener and by source prefix: those that have any.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn shares(&self) -> Result<Vec<(Place, u64)>> {
        let map = lock(&self.defended.shares);
        all(&map, names::SHARES)
    }

    /// Sets the count of a place right. The programs count there meanwhile: what
    /// they count between a look and this is lost.
    ///
    /// # Errors
    ///
    /// The map cannot be written, or is full.
    pub fn set_share(&self, place: &Place, count: u64) -> Result<()> {
        insert(&self.defended.shares, names::SHARES, place, &count)
    }

    /// Removes the count of a place that counts nothing.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn clear_share(&self, place: &Place) -> Result<()> {
        delete::<Place, u64>(&self.defended.shares, names::SHARES, place)
    }

    /// Adds `amount` to a shared counter that has drifted. The programs count there meanwhile: what they
    /// count within the microsecond between its two steps is lost.
    ///
    /// # Errors
    ///
    /// The map cannot be read or written.
    pub fn correct_gauge(&self, gauge: Gauge, amount: i64) -> Result<()> {
        let index = gauge as u32;
        let map = array::<GaugeCell>(&self.gauges, names::GAUGES)?;
        let fd = descriptor(&self.gauges, names::GAUGES)?;
        let mut cell = map.get(&index, 0).map_err(reading(names::GAUGES))?;
        cell.value = cell.value.wrapping_add_signed(amount);
        sys::update_batch(fd, &[index], &[cell]).map_err(|source| Error::Batch {
            action: "write",
            map: names::GAUGES,
            source,
        })
    }

    /// The cells of the sketch of SYN-ACKs by address.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn answers(&self) -> Result<Vec<u64>> {
        let cells = all::<u32, u64>(&self.defended.answers, names::ANSWERS)?;
        let buckets = cells
            .into_iter()
            .filter(|&(index, _)| (index as usize) < BUCKETS);
        Ok(buckets.map(|(_, cell)| cell).collect())
    }

    /// Says which addresses get no SYN-ACK with a cookie, by their marks
    /// ([`tracker_common::defence::mark`]); those beyond [`MARKS`] are left out.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn set_unanswered(&self, marks: &[u64]) -> Result<()> {
        let mut words = [0; MARKS + 1];
        let (bits, rest) = words.split_at_mut(1);
        for (word, &mark) in rest.iter_mut().zip(marks) {
            *word = mark;
            bits[0] |= mark_bit(mark);
        }
        let mut indices = [0; MARKS + 1];
        for (offset, index) in (0_u32..).zip(&mut indices) {
            *index = BUCKETS as u32 + offset;
        }
        let fd = descriptor(&self.defended.answers, names::ANSWERS)?;
        sys::update_batch(fd, &indices, &words).map_err(|source| Error::Batch {
            action: "write",
            map: names::ANSWERS,
            source,
        })
    }

    /// The bans, ended ones too.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn bans(&self) -> Result<Vec<(BanKey, Ban)>> {
        let map = lock(&self.defended.bans);
        let trie = trie::<Ban>(&map)?;
        let mut bans = Vec::new();
        for entry in &trie {
            let (key, ban) = entry.map_err(reading(names::BANS))?;
            bans.push((from_trie(&key), ban));
        }
        Ok(bans)
    }

    /// Whether there is any ban, ended or not.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn has_bans(&self) -> Result<bool> {
        let map = lock(&self.defended.bans);
        let trie = trie::<Ban>(&map)?;
        let first = trie.keys().next().transpose();
        Ok(first.map_err(reading(names::BANS))?.is_some())
    }

    /// The ban of just this prefix.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn ban(&self, key: &BanKey) -> Result<Option<Ban>> {
        let exact = self.bans()?.into_iter().find(|(other, _)| other == key);
        Ok(exact.map(|(_, ban)| ban))
    }

    /// Bans a prefix, in place of an earlier ban of it. The ban is told its prefix's
    /// length.
    ///
    /// # Errors
    ///
    /// The map cannot be written, or is full.
    pub fn set_ban(&self, key: &BanKey, ban: &Ban) -> Result<()> {
        let ban = Ban {
            prefix_len: key.prefix_len,
            ..*ban
        };
        let mut map = lock(&self.defended.bans);
        LpmTrie::<&mut MapData, TrieKey, Ban>::try_from(&mut *map)
            .map_err(opening(names::BANS))?
            .insert(&to_trie(key), ban, 0)
            .map_err(writing(names::BANS))
    }

    /// Ends the ban of just this prefix; false where there is none.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn clear_ban(&self, key: &BanKey) -> Result<bool> {
        let mut map = lock(&self.defended.bans);
        let removed = LpmTrie::<&mut MapData, TrieKey, Ban>::try_from(&mut *map)
            .map_err(opening(names::BANS))?
            .remove(&to_trie(key));
        match removed {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(source) => Err(writing(names::BANS)(source)),
        }
    }
}

/// A [`BanKey`] behind its length, as octets.
type TrieKey = [u8; 24];

fn to_trie(key: &BanKey) -> lpm_trie::Key<TrieKey> {
    let [a, b, c, d] = key.address;
    let words = [u32::from_ne_bytes(key.family), a, b, c, d, key.reserved];
    let mut data = [0; 24];
    for (octets, word) in data.as_chunks_mut().0.iter_mut().zip(words) {
        *octets = word.to_ne_bytes();
    }
    lpm_trie::Key::new(key.prefix_len, data)
}

fn from_trie(key: &lpm_trie::Key<TrieKey>) -> BanKey {
    let data = key.data();
    let mut words = [[0; 4]; 6];
    for (word, octets) in words.iter_mut().zip(data.as_chunks().0) {
        *word = *octets;
    }
    let [family, address @ .., reserved] = words;
    BanKey {
        prefix_len: key.prefix_len(),
        family,
        address: address.map(u32::from_ne_bytes),
        reserved: u32::from_ne_bytes(reserved),
    }
}

fn trie<V: Pod>(map: &Map) -> Result<LpmTrie<&MapData, TrieKey, V>> {
    LpmTrie::try_from(map).map_err(opening(names::BANS))
}

/// Every element of a map without a lock.
pub(super) fn all<K: Pod + Default, V: Pod + Default>(
    map: &Map,
    name: &'static str,
) -> Result<Vec<(K, V)>> {
    let mut found = Vec::new();
    read_all(descriptor(map, name)?, name, |key: &K, value: &V| {
        found.push((*key, *value));
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_trie_is_the_programs_key() {
        let key = BanKey {
            prefix_len: 56,
            family: [4, 0, 0, 0],
            address: [u32::from_ne_bytes([198, 18, 7, 0]), 0, 0, 9],
            reserved: 0,
        };
        let raw = to_trie(&key);
        assert_eq!(size_of_val(&raw), size_of::<BanKey>());
        assert_eq!(raw.data()[..8], [4, 0, 0, 0, 198, 18, 7, 0]);
        assert_eq!(from_trie(&raw), key);
    }
}
