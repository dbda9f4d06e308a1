"""Agents, what they may do, what they did, and what people say to them."""

from agents.models.a2a_tasks import A2aTask, A2aTaskQuerySet, TaskState
from agents.models.agents import Agent, AgentQuerySet, AgentServer, Approver, ToolGrant
from agents.models.approvals import Approval, ApprovalQuerySet, ApprovalStatus
from agents.models.calls import CallOutcome, ToolCall
from agents.models.connected_apps import ConnectedApp, ConnectedAppQuerySet
from agents.models.conversations import Author, Conversation, ConversationQuerySet, Message, MessageState
from agents.models.llm_configs import LlmConfig, LlmProtocol
from agents.models.schedules import Overlap, RunStatus, ScheduledTask, ScheduledTaskQuerySet, TaskRun
from agents.models.tickets import EmbeddedSignIn, SessionTicket, SessionTicketQuerySet

__all__ = [
    "A2aTask",
    "A2aTaskQuerySet",
    "Agent",
    "AgentQuerySet",
    "AgentServer",
    "Approval",
    "ApprovalQuerySet",
    "ApprovalStatus",
    "Approver",
    "Author",
    "CallOutcome",
    "ConnectedApp",
    "ConnectedAppQuerySet",
    "Conversation",
    "ConversationQuerySet",
    "EmbeddedSignIn",
    "LlmConfig",
    "LlmProtocol",
    "Message",
    "MessageState",
    "Overlap",
    "RunStatus",
    "ScheduledTask",
    "ScheduledTaskQuerySet",
    "SessionTicket",
    "SessionTicketQuerySet",
    "TaskRun",
    "TaskState",
    "ToolCall",
    "ToolGrant",
]
