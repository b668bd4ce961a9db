//! A table's creation, and changes of its metadata.

use tracing::info;

use crate::LakeError;
use crate::delta::action::{Action, Metadata};
use crate::delta::commit::{KnownEnd, Plan, Transaction};
use crate::delta::log::{Log, View};

impl Log {
    /// Version 0. When another was faster its table is taken instead.
    pub(crate) async fn create(&self) -> Result<(), LakeError> {
        let _lock = self.commit_lock.lock().await;
        let table_id = self.names.next().to_string();
        let now_ms = self.clock.now_us() / 1000;
        let mut actions = self.spec.create_actions(&table_id, now_ms, &self.names)?;
        let info = self.commit_info("CREATE TABLE", &table_id, None);
        actions.insert(0, Action::CommitInfo(Box::new(info)));
        self.transact(&mut Create { actions }, KnownEnd::Yes).await
    }

    /// Puts what this writer's declarations add to the table's metadata into the log. From then on whoever validates
    /// records by another declaration finds that version taken, and stops.
    pub(crate) async fn adopt(&self) -> Result<(), LakeError> {
        let _lock = self.commit_lock.lock().await;
        let change = |found: &Metadata| self.spec.adopt(found, &self.names);
        self.transact(&mut Change { log: self, change }, KnownEnd::Yes).await
    }

    /// Which of the topics that have had this name the table's rows come from: this one, and the log says so from now on,
    /// unless it names another.
    pub(crate) async fn bind_topic(&self, topic: &str, id: &str) -> Result<String, LakeError> {
        let property = self.topic_id_property(topic);
        let _lock = self.commit_lock.lock().await;
        let change = |found: &Metadata| Ok(with_absent_property(found, &property, id));
        self.transact(&mut Change { log: self, change }, KnownEnd::No).await?;
        let view = self.view();
        let bound = view.metadata().and_then(|metadata| metadata.property(&property));
        Ok(bound.unwrap_or(id).to_owned())
    }

    /// Puts another id in the place of this one.
    pub(crate) async fn rebind_topic(&self, topic: &str, from: &str, to: &str) -> Result<(), LakeError> {
        let property = self.topic_id_property(topic);
        let _lock = self.commit_lock.lock().await;
        let change = |found: &Metadata| {
            if found.property(&property) != Some(from) {
                return Ok(None);
            }
            let mut changed = found.clone();
            changed.configuration.insert(property.clone(), to.to_owned());
            Ok(Some(changed))
        };
        self.transact(&mut Change { log: self, change }, KnownEnd::No).await
    }

    fn topic_id_property(&self, topic: &str) -> String {
        format!("smartcity.topicId.{}/{topic}", self.application())
    }
}

struct Create {
    actions: Vec<Action>,
}

impl Transaction for Create {
    type Outcome = ();

    fn plan(&mut self, view: &View) -> Result<Plan<()>, LakeError> {
        Ok(match view.version {
            ..0 => Plan::Put(self.actions.clone()),
            _ => Plan::Done(()),
        })
    }

    fn committed(&mut self, _version: i64) {}
}

/// A change of the metadata as it is now: others' changes in between stay.
struct Change<'a, C> {
    log: &'a Log,
    /// The metadata as it should be; `None` when it is.
    change: C,
}

impl<C: Fn(&Metadata) -> Result<Option<Metadata>, LakeError> + Send> Transaction for Change<'_, C> {
    type Outcome = ();

    fn plan(&mut self, view: &View) -> Result<Plan<()>, LakeError> {
        let absent = || LakeError::unusable(&self.log.spec.name, "its log has no metadata");
        let found = view.metadata().ok_or_else(absent)?;
        let Some(changed) = (self.change)(found)? else {
            return Ok(Plan::Done(()));
        };
        let id = self.log.names.next().to_string();
        let info = self.log.commit_info("SET TBLPROPERTIES", &id, Some(view.version));
        Ok(Plan::Put(vec![
            Action::CommitInfo(Box::new(info)),
            Action::Metadata(Box::new(changed)),
        ]))
    }

    fn committed(&mut self, version: i64) {
        info!(table = %self.log.spec.name, version, "the table's properties are new");
    }
}

/// With the property, when it has none of this name.
pub(crate) fn with_absent_property(found: &Metadata, name: &str, value: &str) -> Option<Metadata> {
    if found.configuration.contains_key(name) {
        return None;
    }
    let mut changed = found.clone();
    changed.configuration.insert(name.to_owned(), value.to_owned());
    Some(changed)
}
