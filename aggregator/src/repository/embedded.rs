//! The embedded store: sled 0.34, made durable, checked and refused when damaged.
//!
//! ```text
//!  commit ─┐
//!  commit ─┼─> writer thread: one batch, flush, fdatasync, note ─> all of them return
//!  commit ─┘
//! ```
//!
//! sled by itself flushes without a sync, answers a flipped bit with a panic or with an older value,
//! and stays broken after a full disk. So a commit returns after `fdatasync`; every value carries a
//! checksum and every commit the account of all values; both are checked in full when the store is
//! opened; whatever sled does on damage ends in [`StoreError::Damaged`]; and after a failed write
//! the folder is opened anew, which leaves what was durable and nothing else.
//!
//! A read may already see a commit that is on its way to the disk.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::oneshot, task};
use tracing::{error, warn};

use super::{Change, Pair, Store, StoreError, Table, frame::Account};

mod folder;
mod group;
mod tree;

pub(super) use folder::Folder;
use folder::Note;
use tree::{Fault, Tree};

/// Commits that share one write: enough to fill a disk's queue, few enough to stay in memory.
const GROUP_COMMITS: usize = 4096;
const GROUP_BYTES: usize = 8 << 20;
/// sled's own threads keep its file locked for a moment after it was closed.
const LINGERS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The store of one aggregator on one machine.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    folder: Folder,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(Arc<Tree>),
    /// A write failed; the next call opens the folder anew.
    Shut,
    /// It stays refused until the process ends.
    Refused(StoreError),
}

#[derive(Debug)]
struct Job {
    work: Work,
    done: oneshot::Sender<Result<(), StoreError>>,
}

#[derive(Debug)]
enum Work {
    Commit(Vec<Change>),
    /// See [`Writer::mend`].
    Mend,
}

impl Work {
    fn size(&self) -> usize {
        match self {
            Self::Commit(changes) => group::size(changes),
            Self::Mend => 0,
        }
    }
}

type Answer = oneshot::Receiver<Result<(), StoreError>>;

impl EmbeddedStore {
    /// Opens the store in `folder`, or makes one there. Reads and checks everything in it, and
    /// blocks while it does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Held`] if another process works on it, [`StoreError::Damaged`] if anything in
    /// it is not what was written.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = Folder::lock(folder)?;
        let (tree, account) = open_tree(&folder)?;
        let state = RwLock::new(State::Open(Arc::new(tree)));
        let shared = Arc::new(Shared { folder, state });
        let (queue, jobs) = mpsc::channel();
        let mut writer = Writer { shared: Arc::clone(&shared), account };
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(|cause| shared.folder.io("start the writer of", cause))?;
        Ok(Self { shared, queue: Some(queue), writer: Some(writer) })
    }

    /// The folder it lies in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.shared.folder.path()
    }

    /// [`Store::commit`] for code that is not asynchronous.
    pub(super) fn commit_blocking(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let closed = || StoreError::Closed { folder: self.folder().to_owned() };
        self.submit(Work::Commit(changes))?.blocking_recv().map_err(|_| closed())?
    }

    /// Puts work in the writer's queue.
    fn submit(&self, work: Work) -> Result<Answer, StoreError> {
        let closed = || StoreError::Closed { folder: self.folder().to_owned() };
        let (done, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(Job { work, done }).map_err(|_| closed())?;
        Ok(answer)
    }

    /// Bytes its files take on the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.shared.folder.size()
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            error!(folder = %self.folder().display(), "writer of the store panicked");
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let key = stored_key(table, key);
        self.read(move |tree| tree.get(&key)).await
    }

    async fn scan(
        &self,
        table: Table,
        from: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let prefix = stored_key(table, prefix);
        let from = stored_key(table, from).max(prefix.clone());
        self.read(move |tree| tree.scan(&from, &prefix, limit)).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let closed = || StoreError::Closed { folder: self.folder().to_owned() };
        self.submit(Work::Commit(changes))?.await.map_err(|_| closed())?
    }
}

impl EmbeddedStore {
    /// sled reads from the disk where it must; that is no work for the reactor.
    ///
    /// Once sled's own thread met a full disk, the tree answers nothing any more, whatever room
    /// there is by then: it is opened anew, and asked again.
    async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&Tree) -> Result<T, Fault> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let work = Arc::new(work);
        match self.read_once(Arc::clone(&work)).await {
            Err(StoreError::Full { .. }) => {
                let closed = |_| StoreError::Closed { folder: self.folder().to_owned() };
                self.submit(Work::Mend)?.await.map_err(closed)??;
                self.read_once(work).await
            }
            answer => answer,
        }
    }

    async fn read_once<T: Send + 'static>(
        &self,
        work: Arc<impl Fn(&Tree) -> Result<T, Fault> + Send + Sync + 'static>,
    ) -> Result<T, StoreError> {
        let closed = |_| StoreError::Closed { folder: self.folder().to_owned() };
        let shared = Arc::clone(&self.shared);
        task::spawn_blocking(move || shared.read(&*work)).await.map_err(closed)?
    }
}

/// The key as it lies in the one tree that all tables share, so that a commit over several tables
/// is one batch.
fn stored_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(table.byte());
    stored.extend_from_slice(key);
    stored
}

/// Opens the tree of a folder and holds every value against the account.
fn open_tree(folder: &Folder) -> Result<(Tree, Account), StoreError> {
    let deadline = Instant::now() + LINGERS;
    let opened = loop {
        let opened = tree::guarded(|| {
            let tree = Tree::open(folder)?;
            let account = tree.check()?;
            Ok((tree, account))
        });
        // The folder is ours alone: it is our own former tree that is not quite gone.
        match opened {
            Err(fault) if fault.is_held() && Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
            opened => break opened,
        }
    };
    let (tree, account) = opened.map_err(|fault| folder.fault("open", fault))?;
    match folder.noted() {
        Note::Commits(noted) if noted > account.commits => {
            let what = format!("{noted} commits were acknowledged, {} are there", account.commits);
            Err(folder.damaged(folder.data_file(), what))
        }
        _ => Ok((tree, account)),
    }
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads while the writer does not change the tree: a value and its parts belong together.
    fn read<T>(&self, work: impl Fn(&Tree) -> Result<T, Fault>) -> Result<T, StoreError> {
        let fault = match &*self.state() {
            State::Open(tree) => match tree::guarded(|| work(tree)) {
                Ok(read) => return Ok(read),
                Err(fault) => fault,
            },
            State::Refused(cause) => return Err(cause.clone()),
            State::Shut => {
                let what = "it is closed until a commit succeeds".to_owned();
                return Err(StoreError::Full { folder: self.folder.path().to_owned(), what });
            }
        };
        let cause = self.folder.fault("read", fault);
        self.refuse_if_damaged(&cause);
        Err(cause)
    }

    fn refuse_if_damaged(&self, cause: &StoreError) {
        if matches!(cause, StoreError::Damaged { .. }) {
            error!(cause = %cause, "store refused");
            let former = std::mem::replace(&mut *self.state_mut(), State::Refused(cause.clone()));
            abandon(former);
        }
    }
}

/// Lets go of a broken tree where nobody waits for it: its own clean-up may panic or hang.
fn abandon(state: State) {
    if let State::Open(tree) = state {
        let spawned = thread::Builder::new().name("store-abandoned".to_owned()).spawn(move || {
            let closed = tree::guarded(move || {
                drop(tree);
                Ok(())
            });
            if let Err(fault) = closed {
                warn!(?fault, "damaged store not closed in order");
            }
        });
        if let Err(cause) = spawned {
            warn!(%cause, "damaged store not closed");
        }
    }
}

#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    account: Account,
}

impl Writer {
    fn run(&mut self, jobs: &mpsc::Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut bytes = first.work.size();
            let mut group = vec![first];
            while group.len() < GROUP_COMMITS && bytes < GROUP_BYTES {
                let Ok(next) = jobs.try_recv() else { break };
                bytes += next.work.size();
                group.push(next);
            }
            let (mut commits, mut committing, mut mending) = (Vec::new(), Vec::new(), Vec::new());
            for job in group {
                match job.work {
                    Work::Commit(changes) => {
                        commits.push(changes);
                        committing.push(job.done);
                    }
                    Work::Mend => mending.push(job.done),
                }
            }
            // Nobody waits any more: what was done stands all the same.
            let tell = |waiting: Vec<oneshot::Sender<_>>, result: Result<(), StoreError>| {
                waiting.into_iter().for_each(|done| drop(done.send(result.clone())));
            };
            if !mending.is_empty() {
                tell(mending, self.mend());
            }
            if !commits.is_empty() {
                tell(committing, self.write(&commits, bytes));
            }
        }
    }

    /// Opens the tree anew if it refuses to write.
    fn mend(&mut self) -> Result<(), StoreError> {
        let tree = self.tree()?;
        match tree::guarded(|| tree.sync()) {
            Ok(()) => Ok(()),
            Err(fault) => match self.give_up(tree, fault) {
                StoreError::Full { .. } => self.tree().map(drop),
                cause => Err(cause),
            },
        }
    }

    /// What sled's own thread met on a full disk stays with the tree when there is room again, and
    /// the next write is refused for it. So a write that finds room is made twice.
    fn write(&mut self, commits: &[Vec<Change>], bytes: usize) -> Result<(), StoreError> {
        match self.write_once(commits, bytes) {
            Err(StoreError::Full { .. }) if self.shared.folder.has_room(bytes).is_ok() => {
                self.write_once(commits, bytes)
            }
            result => result,
        }
    }

    fn write_once(&mut self, commits: &[Vec<Change>], bytes: usize) -> Result<(), StoreError> {
        self.shared.folder.has_room(bytes)?;
        let tree = self.tree()?;
        let result = tree::guarded(|| {
            let last = group::last_of(&tree, commits)?;
            let (batch, account) = tree.batch(&self.account, &last)?;
            {
                let _nobody_reads = self.shared.state_mut();
                tree::guarded(|| tree.apply(batch))?;
            }
            tree.sync()?;
            Ok(account)
        });
        match result {
            Ok(account) => {
                self.account = account;
                self.shared.folder.note(self.account.commits);
                Ok(())
            }
            Err(fault) => Err(self.give_up(tree, fault)),
        }
    }

    /// The tree, opened anew if a write failed before.
    fn tree(&mut self) -> Result<Arc<Tree>, StoreError> {
        match &*self.shared.state() {
            State::Open(tree) => return Ok(Arc::clone(tree)),
            State::Refused(cause) => return Err(cause.clone()),
            State::Shut => {}
        }
        let opened = open_tree(&self.shared.folder);
        let (tree, account) = opened.inspect_err(|cause| self.shared.refuse_if_damaged(cause))?;
        let tree = Arc::new(tree);
        self.account = account;
        *self.shared.state_mut() = State::Open(Arc::clone(&tree));
        Ok(tree)
    }

    /// After a failed write what sled holds in memory is no longer what is on the disk.
    fn give_up(&mut self, tree: Arc<Tree>, fault: Fault) -> StoreError {
        let cause = self.shared.folder.fault("write to", fault);
        warn!(cause = %common::task::Chain(&cause), "commit failed");
        let next = match &cause {
            StoreError::Full { .. } => State::Shut,
            refused => State::Refused(refused.clone()),
        };
        let former = std::mem::replace(&mut *self.shared.state_mut(), next);
        drop(tree);
        match cause {
            StoreError::Full { .. } => {
                drop(former);
                // So that reads go on; if it fails the next commit tries again.
                if let Err(cause) = self.tree() {
                    warn!(cause = %common::task::Chain(&cause), "store not opened again");
                }
            }
            _ => abandon(former),
        }
        cause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> Change {
        let value = Bytes::copy_from_slice(value);
        Change::Put { table: Table::Settings, key: key.to_vec(), value }
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let long = vec![7; 3 * 4096 + 1];
        {
            let store = EmbeddedStore::open(folder.path()).unwrap();
            store.commit(vec![put(b"a", b"1"), put(b"b", &long), put(b"c", b"3")]).await.unwrap();
            let gone = Change::Delete { table: Table::Settings, key: b"c".to_vec() };
            store.commit(vec![put(b"a", b"2"), gone]).await.unwrap();
        }

        let store = EmbeddedStore::open(folder.path()).unwrap();

        let all = store.scan(Table::Settings, b"", b"", 10).await.unwrap();
        assert_eq!(all, [(b"a".to_vec(), Bytes::from("2")), (b"b".to_vec(), Bytes::from(long))]);
        assert_eq!(store.get(Table::Settings, b"c").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_range_goes_with_what_the_same_commit_put_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let long = vec![7; 3 * 4096 + 1];
        {
            let store = EmbeddedStore::open(folder.path()).unwrap();
            store.commit(vec![put(b"a", b"1"), put(b"b", &long), put(b"d", b"4")]).await.unwrap();
            let (from, to) = (b"a2".to_vec(), b"d".to_vec());
            let range = Change::DeleteRange { table: Table::Settings, from, to };
            store.commit(vec![put(b"c", b"3"), range, put(b"d", b"5")]).await.unwrap();
        }

        // What was deleted is in no account any more: else the store would not open.
        let store = EmbeddedStore::open(folder.path()).unwrap();

        let all = store.scan(Table::Settings, b"", b"", 10).await.unwrap();
        assert_eq!(all, [(b"a".to_vec(), Bytes::from("1")), (b"d".to_vec(), Bytes::from("5"))]);
    }

    #[tokio::test]
    async fn a_store_in_use_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let _held = EmbeddedStore::open(folder.path()).unwrap();

        let error = EmbeddedStore::open(folder.path()).unwrap_err();

        let holder = format!("in use by process {}", std::process::id());
        assert!(error.to_string().contains(&holder), "{error}");
    }
}
