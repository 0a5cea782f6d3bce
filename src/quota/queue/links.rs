//! The links of a ticket: its places in the order of its class, in its lane and in the queues of its keys.

use super::ids::CallerIndex;
use super::ticket::Ticket;
use super::{Criticality, Position, Queue, TicketId, WriteKey};

impl<T> Queue<T> {
    /// Raises the tickets ahead of a position to its class. Otherwise the ticket would wait in their class. In the queue of a key, no
    /// ticket has a lower class than one behind it, so each walk ends at the first ticket of a sufficient class.
    pub(super) fn raise_class_ahead(&mut self, position: Position, keys: &[WriteKey], class: Criticality) {
        let mut walks: Vec<_> = keys.iter().map(|key| (position, *key)).collect();
        while let Some((position, key)) = walks.pop() {
            // A position without a ticket gets its class when its ticket arrives.
            let tickets = self.key_queues.ahead(position, key).filter_map(|at| self.ticket_at(at));
            let lower = |id: &TicketId| self.tickets.get(id).is_some_and(|ticket| ticket.class < class);
            let ahead: Vec<_> = tickets.take_while(lower).collect();
            for id in ahead {
                if let Some(mut ticket) = self.detach(id) {
                    ticket.class = class;
                    walks.extend(ticket.keys.iter().map(|key| (ticket.position, *key)));
                    self.attach(id, ticket);
                }
            }
        }
    }

    /// The highest class of the tickets behind this position.
    pub(super) fn class_behind(&self, position: Position, keys: &[WriteKey]) -> Option<Criticality> {
        let next = |key: &WriteKey| self.key_queues.behind(position, *key).find_map(|at| self.ticket_at(at));
        let class = |id| Some(self.tickets.get(&id)?.class);
        keys.iter().filter_map(next).filter_map(class).max()
    }

    /// The ticket that waits at this position.
    pub(super) fn ticket_at(&self, position: Position) -> Option<TicketId> {
        match self.reserved.get(&position) {
            Some(reserved) => reserved.ticket,
            None => Some(TicketId(position.0)).filter(|id| self.tickets.contains_key(id)),
        }
    }

    /// Makes a ticket wait. It is in the queues of its keys already.
    pub(super) fn attach(&mut self, id: TicketId, ticket: Ticket<T>) {
        let place = ticket.place(id);
        let caller = self.callers.add_ticket(ticket.caller);
        self.deadlines.insert((ticket.deadline, id));
        self.classes[ticket.class as usize].enter(&place, caller.flow_mut(ticket.class));
        if let Some(lane) = ticket.lane {
            self.lanes.enter(lane, ticket.class);
        }
        let is_first = self.key_queues.is_first(ticket.position, &ticket.keys);
        self.set_waiting(ticket.position, Some(id));
        self.tickets.insert(id, ticket);
        if is_first {
            self.make_ready(id);
        }
    }

    /// Ends the wait of a ticket. It stays in the queues of its keys.
    pub(super) fn detach(&mut self, id: TicketId) -> Option<Ticket<T>> {
        let ticket = self.tickets.remove(&id)?;
        let caller = self.callers.remove_ticket(ticket.caller);
        self.deadlines.remove(&(ticket.deadline, id));
        if let Some(lane) = ticket.lane {
            self.lanes.leave(lane, ticket.class, ticket.caller, id);
        }
        let is_capped = caller.is_capped();
        let flow = caller.flow_mut(ticket.class);
        self.classes[ticket.class as usize].leave(&ticket.place(id), flow, is_capped);
        self.set_waiting(ticket.position, None);
        Some(ticket)
    }

    /// Sets the ticket that waits at a reserved position.
    fn set_waiting(&mut self, position: Position, ticket: Option<TicketId>) {
        if let Some(reserved) = self.reserved.get_mut(&position) {
            reserved.ticket = ticket;
        }
    }

    pub(super) fn leave_key_queues(&mut self, position: Position, keys: &[WriteKey]) {
        for head in self.key_queues.leave(position, keys) {
            let Some(id) = self.ticket_at(head) else {
                continue;
            };
            let is_first = |ticket: &Ticket<T>| self.key_queues.is_first(head, &ticket.keys);
            if self.tickets.get(&id).is_some_and(is_first) {
                self.make_ready(id);
            }
        }
    }

    pub(super) fn make_ready(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.get(&id).filter(|ticket| !ticket.gathering) {
            if let Some(lane) = ticket.lane {
                self.lanes.make_ready(lane, ticket.class, ticket.caller, id);
            }
            let caller = self.callers.get_mut(ticket.caller);
            let is_capped = caller.is_capped();
            let flow = caller.flow_mut(ticket.class);
            self.classes[ticket.class as usize].make_ready(&ticket.place(id), flow, is_capped);
        }
    }

    /// Updates the order of the callers after a caller has reached its cap, or its cap was lifted.
    pub(super) fn update_order(&mut self, caller: CallerIndex) {
        let state = self.callers.get_mut(caller);
        let is_capped = state.is_capped();
        for (class, flow) in self.classes.iter_mut().zip(&mut state.flows) {
            if let Some(flow) = flow {
                class.update_order(caller, flow, is_capped);
            }
        }
    }
}
